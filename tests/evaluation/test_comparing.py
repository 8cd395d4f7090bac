"""`raectl compare`: one table in the form of Table 1, and one picture."""

import shutil

import numpy as np
import pytest
from PIL import Image
from support.cli import SMALL, assert_clear_error, contains, write_pictures

import raectl
from raectl import rng


@pytest.fixture(scope="module")
def compared(original, tmp_path_factory):
    """Two measured checkpoints and the data they were measured on."""
    home = tmp_path_factory.mktemp("compared")
    data = write_pictures(home / "new", 24, sizes=(16,))
    paths = [shutil.copytree(original.path, home / name) for name in ("first", "second")]
    raectl.load(paths[1]).fit_density("kde")
    for path in paths:
        list(raectl.Evaluation(raectl.load(path), data, features="pixels"))
    return home, paths, data


def test_the_table_has_a_row_a_checkpoint_and_the_columns_of_table_1(cli, compared):
    _, paths, _ = compared
    told = cli("compare", *paths, "--json").json
    assert told["metric"] == "kernel" and told["protocol"]["n"] == 24 and told["out"] is None
    first, second = ({line["of"]: line["value"] for line in told["checkpoints"][str(path)]} for path in paths)
    assert (
        set(second) == {*first, "kde"} == {"real", "reconstruction", "N", "gaussian", "gmm-2", "interpolation", "kde"}
    )
    assert all(first[of] == second[of] for of in first)
    shown = cli("compare", *paths, "--metric", "recall").out
    assert "first" in shown and "second" in shown and "kde" in shown
    row = next(line for line in shown.splitlines() if line.startswith("first"))
    assert row.split()[-1] == "-"  # no kde there


def test_the_picture_holds_what_each_model_makes(cli, compared, tmp_path):
    _, paths, data = compared
    out = tmp_path / "compared.png"
    cli("compare", *paths, "--data", data, "-o", out, "-n", 3, "--seed", 2)
    grid = np.asarray(Image.open(out))
    for path in paths:
        checkpoint = raectl.load(path)
        items = checkpoint.open_data(data).items[rng.choose(2, "compared items", 24, 3)]
        assert contains(grid, items[2])
        assert contains(grid, checkpoint.reconstruct(items[:3])[1])
        for density in checkpoint.densities():
            assert contains(grid, checkpoint.sample(3, 2, density)[2])


def test_only_what_was_measured_alike_is_compared(cli, compared, tmp_path):
    home, paths, data = compared
    other = shutil.copytree(paths[0], tmp_path / "other")
    list(raectl.Evaluation(raectl.load(other), data, n=20, features="pixels"))
    told = cli("compare", other, paths[0], "--json").json
    assert told["protocol"]["n"] == 20 and told["checkpoints"][str(paths[0])] == []
    assert "nothing was measured of first" in cli("compare", other, paths[0]).err
    assert home.exists()


def test_mistakes_are_clear(cli, compared, original, tmp_path):
    _, paths, data = compared
    bare = shutil.copytree(original.path, tmp_path / "bare")
    assert_clear_error(cli.run("compare", bare), 1, "nothing was measured of", "raectl evaluate")
    assert_clear_error(cli.run("compare", *paths, "--metric", "beauty"), 2, "'beauty'", "kernel, precision")
    assert_clear_error(cli.run("compare", *paths, "-o", tmp_path / "a.png"), 2, "--data and --out")
    assert_clear_error(cli.run("compare", *paths, "--data", data, "-o", tmp_path / "a.npz"), 2, "picture")
    assert_clear_error(cli.run("compare", *paths, "--data", data, "-o", tmp_path / "a.png", "-n", 99), 2, "24 items")
    assert_clear_error(cli.run("compare", *paths, "--data", data, "-o", data / "a.png"), 1, "lies in the data")
    grey = write_pictures(tmp_path / "grey", 20, grey=True)
    cli("train", "--data", grey, "--out", tmp_path / "small", *SMALL)
    assert_clear_error(
        cli.run("compare", paths[0], tmp_path / "small", "--data", data, "-o", tmp_path / "a.png"), 1, "shape"
    )
    assert not (tmp_path / "a.png").exists()
