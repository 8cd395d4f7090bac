"""`fit-density --per-class` and what follows from it: samples, walks and measurements by class."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.cli import SMALL, Cli, assert_clear_error, write_pictures

import raectl
from raectl.data import open_dataset

COUNTS = {"circle": 40, "line": 20, "dot": 12}


@pytest.fixture
def own(labelled: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of the checkpoint for one test alone."""
    return Path(shutil.copytree(labelled[1], tmp_path / "own"))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of three classes, dark, mid and bright, and a checkpoint trained on it with a density by class."""
    home = tmp_path_factory.mktemp("labelled")
    rng = np.random.default_rng(0)
    for number, (name, count) in enumerate(COUNTS.items()):
        (home / "imgs" / name).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 40, (12, 12, 3)) + 100 * number
            Image.fromarray(pixels.astype(np.uint8)).save(home / "imgs" / name / f"{index:03}.png")
    config = raectl.Config(width=4, latent_dim=4, batch_size=16, epochs=40, device="cpu", patience=0)
    checkpoint = raectl.train(config, home / "imgs", home / "ckpt")
    checkpoint.fit_density("gaussian", name="one")
    checkpoint.fit_density("gaussian", per_class=True)
    return home / "imgs", home / "ckpt"


def brightness(images: np.ndarray) -> np.ndarray:
    """The class of each image, told by its mean."""
    return np.array([*COUNTS])[
        np.rint((images.reshape(len(images), -1).mean(axis=1) - 20) / 100).astype(int).clip(0, 2)
    ]


def test_fit_density_reports_each_class(cli: Cli, labelled: Any, own: Path) -> None:
    result = cli("fit-density", own, "--density", "gaussian", "--per-class", "--name", "x", "--json").json
    entries = {row["class"]: row["n"] for row in result["classes"]}
    kept = open_dataset(labelled[0])
    train, _ = raectl.load(labelled[1], "cpu").split(kept.items)
    assert entries == {name: int((kept.labels[train] == i).sum()) for i, name in enumerate(kept.classes)}
    assert result["density"] == "x" and result["n"]["train"] == len(train)
    shown = cli("fit-density", own, "--density", "gaussian", "--per-class", "--name", "x")
    assert "circle" in shown.out and "--per-class 8" in shown.err
    assert "classes have few latents (fewest: dot, " in shown.err


def test_samples_of_a_class_are_of_it_and_of_no_other(cli: Cli, labelled: Any, tmp_path: Path) -> None:
    out = tmp_path / "s.npz"
    for name in COUNTS:
        cli("sample", labelled[1], "--class", name, "-n", 40, "-o", out)
        found = np.load(out)
        assert set(found["labels"]) == {name}
        assert (brightness(found["images"]) == name).mean() > 0.95
    cli("sample", labelled[1], "-n", 400, "-o", out)
    everything = np.load(out)
    shares = [(everything["labels"] == name).mean() for name in COUNTS]
    np.testing.assert_allclose(shares, np.array([*COUNTS.values()]) / 72, atol=0.1)
    assert (brightness(everything["images"]) == everything["labels"]).mean() > 0.95
    cli("sample", labelled[1], "--class", "dot", "--class", "line", "-n", 400, "-o", out)
    some = np.load(out)
    assert set(some["labels"]) == {"dot", "line"}
    # A class's samples are the same rows, whatever others are drawn; a longer run begins like a shorter one.
    cli("sample", labelled[1], "--class", "dot", "-n", 400, "-o", out)
    dots, mine = np.load(out)["images"], some["labels"] == "dot"
    assert np.array_equal(dots[mine], some["images"][mine])
    cli("sample", labelled[1], "--class", "dot", "-n", 30, "-o", out)
    assert np.array_equal(np.load(out)["images"], dots[:30])


def test_rows_a_class(cli: Cli, labelled: Any, tmp_path: Path) -> None:
    result = cli("sample", labelled[1], "--per-class", 5, "-o", tmp_path / "rows.png", "--json").json
    assert result["per_class"] == 5
    with Image.open(tmp_path / "rows.png") as picture:
        width, height = picture.size
    assert height == 3 * 12 + 4 * (height - 36) // 4 and width > 5 * 12
    cli("sample", labelled[1], "--per-class", 5, "-o", tmp_path / "rows.npz")
    rows = np.load(tmp_path / "rows.npz")
    assert rows["labels"].tolist() == [name for name in sorted(COUNTS) for _ in range(5)]
    cli("sample", labelled[1], "--class", "dot", "-n", 5, "-o", tmp_path / "dot.npz")
    assert np.array_equal(rows["images"][5:10], np.load(tmp_path / "dot.npz")["images"])
    cli(
        "sample",
        labelled[1],
        "--per-class",
        2,
        "--class",
        "line",
        "--class",
        "dot",
        "--latents",
        "-o",
        tmp_path / "z.npy",
    )
    assert np.load(tmp_path / "z.npy").shape == (4, 4)


def test_a_folder_of_samples_is_a_source_with_classes(cli: Cli, labelled: Any, tmp_path: Path) -> None:
    cli("sample", labelled[1], "--per-class", 6, "-o", tmp_path / "made")
    made = open_dataset(tmp_path / "made")
    assert made.classes == tuple(sorted(COUNTS)) and len(made) == 18
    cli("sample", labelled[1], "-n", 30, "-o", tmp_path / "npz.npz")
    assert set(open_dataset(tmp_path / "npz.npz").classes) <= set(COUNTS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--class", "bird"], ["'bird' is no class of this density", "its classes: circle, dot, line"]),
        (["--density", "one", "--class", "dot"], ["is not by class", "fit-density", "--per-class"]),
        (["--density", "one", "--per-class", "3"], ["--per-class", "is not by class"]),
        (["--per-class", "3", "-n", "9"], ["-n and --per-class exclude each other"]),
        (["--per-class", "3", "--nearest", "near.png"], ["--nearest is for samples without --per-class"]),
        (["--per-class", "0"], ["--per-class"]),
    ],
)
def test_wrong_classes_have_one_clear_line(
    cli: Cli, labelled: Any, tmp_path: Path, arguments: list[str], said: list[str]
) -> None:
    assert_clear_error(cli.run("sample", labelled[1], *arguments, "-o", tmp_path / "o.png"), 2, *said)
    assert not [*tmp_path.iterdir()]


def test_data_without_classes(cli: Cli, trained: Any, own: Path, tmp_path: Path) -> None:
    assert_clear_error(
        cli.run("fit-density", trained.path, "--per-class"), 2, "--per-class:", "has no classes", "folders"
    )
    np.save(tmp_path / "z.npy", np.random.default_rng(0).normal(size=(30, 3)))
    command = ("fit-density", tmp_path / "d", "--latents", tmp_path / "z.npy", "--per-class")
    assert_clear_error(cli.run(*command), 2, "--per-class:", "has no array 'labels' beside the latents")
    for density in ("gmm,components=2", "kde"):
        cli("fit-density", own, "--density", density, "--per-class", "--name", "other")


def test_latents_from_a_file_may_have_labels(cli: Cli, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.array(["far", "near"])[rng.integers(0, 2, 300)]
    np.savez(tmp_path / "z.npz", z=rng.normal(size=(300, 3)) + 50 * (labels == "far")[:, None], labels=labels)
    arguments = ("fit-density", tmp_path / "d", "--latents", tmp_path / "z.npz", "--density", "gaussian", "--per-class")
    assert [row["class"] for row in cli(*arguments, "--json").json["classes"]] == ["far", "near"]
    cli("sample", tmp_path / "d", "--class", "far", "-n", 50, "-o", tmp_path / "new.npy")
    assert np.load(tmp_path / "new.npy").min() > 40
    np.savez(tmp_path / "z.npz", z=rng.normal(size=(300, 3)), labels=labels[:5])
    assert_clear_error(cli.run(*arguments), 1, "its labels are of type")


def test_walks_lead_from_class_to_class(cli: Cli, labelled: Any, tmp_path: Path) -> None:
    arguments = ("interpolate", labelled[1], "--data", labelled[0], "-o", tmp_path / "w.npz")
    result = cli(*arguments, "--classes", "circle", "dot", "--pairs", 6, "--json").json
    dataset = open_dataset(labelled[0])
    ends = np.array([[dataset.classes[dataset.labels[i]] for i in pair] for pair in result["pairs"]])
    assert (ends == ["circle", "dot"]).all() and len({*map(tuple, result["pairs"])}) == 6
    walks = np.load(tmp_path / "w.npz")["images"]
    assert (brightness(walks[:, 0]) == "circle").all() and (brightness(walks[:, -1]) == "dot").all()
    same = cli(*arguments, "--classes", "dot", "dot", "--pairs", 6, "--json").json["pairs"]
    assert len({index for pair in same for index in pair}) == 12
    for given, said in (
        (("--classes", "circle", "bird"), "has no class 'bird'"),
        (("--classes", "circle", "dot", "--pairs", "13"), "needs 13 items of class dot"),
        (("--classes", "circle", "dot", "--between", "0", "1"), "exclude each other"),
    ):
        assert_clear_error(cli.run(*arguments, *given), 2, said)


def test_evaluate_measures_each_class_and_the_whole(cli: Cli, labelled: Any, tmp_path: Path) -> None:
    arguments = ("evaluate", labelled[1], "--data", labelled[0], "--features", "pixels")
    lines = cli(*arguments, "--json").json["numbers"]
    by_class = {(line["of"], line["class"]): line for line in lines if line["class"] and line["metric"] == "kernel"}
    assert {class_ for _, class_ in by_class} == {*COUNTS}
    assert {of for of, _ in by_class} == {"reconstruction", "gaussian-by-class"}
    assert by_class["reconstruction", "dot"]["n"] == by_class["reconstruction", "dot"]["n_real"] == 12
    # The error of the whole is the mean of those of the classes, weighted by their items.
    errors = {line["class"]: line for line in lines if line["of"] == "reconstruction" and line["metric"] == "mse"}
    mean = sum(errors[name]["value"] * count for name, count in COUNTS.items()) / 72
    assert errors[None]["value"] == pytest.approx(mean, rel=1e-9)
    shown = cli(*arguments)
    assert "by class" in shown.out and "reconstruction, mse" in shown.out
    # What compares models knows the whole alone.
    table = cli("compare", labelled[1], "--metric", "kernel", "--json").json
    assert "circle" not in json.dumps(table)


def test_the_density_by_class_is_taken_where_classes_are_named(cli: Cli, own: Path, tmp_path: Path) -> None:
    cli("fit-density", own, "--density", "gaussian", "--name", "later")
    result = cli("sample", own, "--class", "dot", "-n", 5, "-o", tmp_path / "o.npz", "--json")
    assert result.json["density"] == "gaussian-by-class"
    assert "sampling from gaussian-by-class, the last one by class" in result.err
    assert cli("sample", own, "-n", 5, "-o", tmp_path / "o.npz", "--json").json["density"] == "later"


def test_what_says_how_to_fit_again_says_per_class(cli: Cli, labelled: Any, own: Path, tmp_path: Path) -> None:
    file = own / "densities" / "gaussian-by-class" / "density.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"encoder": "0" * 64}))
    result = cli.run("sample", own, "--density", "gaussian-by-class", "-n", 3, "-o", tmp_path / "o.png")
    assert_clear_error(result, 1, "was fitted to other weights", "--per-class")


def test_cross_fitting_fits_by_class_too(cli: Cli, own: Path, tmp_path: Path) -> None:
    arguments = ("score", own, "--cross-fit", 2, "-o", tmp_path / "s.csv")
    cli(*arguments)
    paths = [*(own / "cross-fit").glob("*/densities/*/density.json")]
    before = {path: path.read_bytes() for path in paths}
    assert len(paths) == 2
    assert all([part["name"] for part in json.loads(text)["classes"]] == sorted(COUNTS) for text in before.values())
    cli(*arguments)  # what was fitted is not fitted again
    assert {path: path.stat().st_mtime_ns for path in paths} == {path: path.stat().st_mtime_ns for path in before}
    assert {path: path.read_bytes() for path in paths} == before


def test_names_that_the_font_lacks_have_numbers(cli: Cli, tmp_path: Path) -> None:
    for number, name in enumerate(("M\u00fcnster", "\u732b", "dog")):
        write_pictures(tmp_path / "imgs" / name, 12 + number)
    cli("train", tmp_path / "imgs", *SMALL, "--out", tmp_path / "ckpt", "--device", "cpu")
    cli("fit-density", tmp_path / "ckpt", "--density", "gaussian", "--per-class")
    result = cli("sample", tmp_path / "ckpt", "--per-class", 2, "-o", tmp_path / "o.png")
    assert "rows: 1 M\u00fcnster, 2 dog, 3 \u732b" in result.err


def test_classes_that_the_density_has_not_are_said(cli: Cli, labelled: Any, tmp_path: Path) -> None:
    dataset = open_dataset(labelled[0])
    labels = np.where(dataset.labels == 0, "ring", "stroke")
    np.savez(tmp_path / "other.npz", images=dataset.items, labels=labels)
    result = cli("evaluate", labelled[1], "--data", tmp_path / "other.npz", "--features", "pixels")
    assert "gaussian-by-class has fewer than 12 items of these classes: ring, stroke" in result.err


def test_small_classes_are_said_to_be_left_out(cli: Cli, labelled: Any, tmp_path: Path) -> None:
    dataset = open_dataset(labelled[0])
    rows = np.sort(np.concatenate([np.flatnonzero(dataset.labels == i)[:n] for i, n in enumerate((20, 11, 20))]))
    labels = np.array(dataset.classes)[dataset.labels[rows]]
    np.savez(tmp_path / "few.npz", images=dataset.items[rows], labels=labels)
    result = cli("evaluate", labelled[1], "--data", tmp_path / "few.npz", "--features", "pixels", "--json")
    assert "not measured alone, as they have fewer than 12 real items: dot" in result.err
    assert {line["class"] for line in result.json["numbers"]} == {None, "circle", "line"}


def test_python_draws_by_class_too(labelled: Any) -> None:
    checkpoint = raectl.load(labelled[1], "cpu")
    assert set(brightness(checkpoint.sample(50, classes=["dot"], density="gaussian-by-class"))) == {"dot"}
    assert checkpoint.density("gaussian-by-class", ["line", "dot"]).log_prob(np.zeros((2, 4))).shape == (2,)
    assert checkpoint.log_prob(open_dataset(labelled[0]).items[:5], "gaussian-by-class").shape == (5,)


def test_a_damaged_record_of_classes_is_refused(cli: Cli, own: Path, tmp_path: Path) -> None:
    file = own / "densities" / "gaussian-by-class" / "density.json"
    whole = json.loads(file.read_text())
    for classes in (
        whole["classes"][:2],
        [{**whole["classes"][0], "n": 0}, *whole["classes"][1:]],
        [*whole["classes"][:2], whole["classes"][0]],
        [{**whole["classes"][0], "options": {"components": 3}}, *whole["classes"][1:]],
        "circle",
    ):
        file.write_text(json.dumps({**whole, "classes": classes}))
        result = cli.run("sample", own, "--density", "gaussian-by-class", "-n", 4, "-o", tmp_path / "o.png")
        assert_clear_error(result, 1, "damaged")


def test_strings_by_class(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    for name, letter in (("ex", "x"), ("one", "1")):
        (tmp_path / "s" / f"{name}.txt").write_text(
            "\n".join([f"{letter}+{letter}", letter, f"({letter})"] * 20) + "\n"
        )
    small = ("--epochs", 1, "--width", 2, "--latent-dim", 4, "--device", "cpu")
    cli("train", tmp_path / "s", "--grammar", "expressions", *small, "--out", tmp_path / "ckpt")
    cli("fit-density", tmp_path / "ckpt", "--density", "gaussian", "--per-class")
    cli("sample", tmp_path / "ckpt", "--per-class", 3, "-o", tmp_path / "o.txt")
    lines = (tmp_path / "o.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["ex", "one"] and all(line.count("\t") == 3 for line in lines)
    cli("sample", tmp_path / "ckpt", "--class", "one", "-n", 5, "--draws", 3, "-o", tmp_path / "p.txt")
    shown = cli("check", tmp_path / "s", "--grammar", "expressions")
    assert "2, of 60 to 60" in shown.out
