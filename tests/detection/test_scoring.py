"""`raectl score`: the table, what it says of each item, and what is refused."""

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import uniform_filter
from sklearn.metrics import roc_auc_score
from support.cli import Cli, assert_clear_error, picture
from support.strings import write_lines

import raectl
from raectl.checkpoint.directory import Directory
from raectl.storage.arrays import read_arrays, write_arrays


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture
def classed(tmp_path: Path) -> Path:
    """Twelve pictures like those trained on, six of noise, and two bad files."""
    home = tmp_path / "new"
    rng = np.random.default_rng(0)
    for index in range(12):
        (home / "disc").mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(500 + index, 16)).save(home / "disc" / f"{index:02}.png")
    for index in range(6):
        (home / "noise").mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(home / "noise" / f"{index}.png")
    (home / "disc" / "05-bad.png").write_bytes(b"")
    (home / "noise" / "z.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return home


def test_a_row_an_item_in_the_order_of_the_source(cli: Cli, trained: Any, classed: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    result = cli("score", trained.path, "--data", classed, "-o", out, "--json")
    rows = table(out)
    paths = [row["path"] for row in rows]
    assert paths == sorted(paths) and len(paths) == 20
    bad = {row["path"]: row["reason"] for row in rows if not row["score"]}
    assert bad == {"disc/05-bad.png": "an empty file", "noise/z.png": bad["noise/z.png"]} and bad["noise/z.png"]
    assert [row["class"] for row in rows] == ["disc"] * 13 + ["noise"] * 7
    values = result.json
    assert (values["n"], values["bad"], values["typical"], values["trained_on"]) == (18, 2, 6, 0)
    assert values["odd"] == sum(row["odd"] == "true" for row in rows)
    assert values["oddest"][0]["path"] == max((r for r in rows if r["score"]), key=lambda r: float(r["score"]))["path"]


def test_the_numbers_are_those_of_python(cli: Cli, trained: Any, classed: Path, tmp_path: Path) -> None:
    cli("score", trained.path, "--data", classed, "-o", tmp_path / "s.csv", "--density", "gaussian")
    rows = [row for row in table(tmp_path / "s.csv") if row["score"]]
    checkpoint = raectl.load(trained.path, "cpu")
    items = checkpoint.open_data(classed, max_bad=1.0).items
    scores = checkpoint.score(items, density="gaussian")
    for name in ("error", "log_density", "score", "percentile"):
        np.testing.assert_allclose([float(row[name]) for row in rows], getattr(scores, name), rtol=1e-6)
    np.testing.assert_allclose(scores.log_density, checkpoint.log_prob(items, "gaussian"), rtol=1e-5)
    x, x_hat = items / 255, checkpoint.decode(checkpoint.encode(items)).permute(0, 2, 3, 1).numpy()
    energy = ((x - x.mean(axis=(1, 2), keepdims=True)) ** 2).sum(axis=(1, 2, 3))
    _, held_out = checkpoint.split(checkpoint.open_data().items)
    h = checkpoint.open_data().items[held_out] / 255
    floor = 1e-5 * ((h - h.mean(axis=(1, 2), keepdims=True)) ** 2).sum(axis=(1, 2, 3)).mean()
    np.testing.assert_allclose(scores.error, ((x - x_hat) ** 2).sum(axis=(1, 2, 3)) / (energy + floor), rtol=1e-4)


def test_items_do_not_depend_on_their_neighbours(trained: Any, classed: Path) -> None:
    checkpoint = raectl.load(trained.path, "cpu")
    items = checkpoint.open_data(classed, max_bad=1.0).items
    assert np.array_equal(checkpoint.score(items).score[5:9], checkpoint.score(items[5:9]).score)


def test_what_was_trained_on_is_marked(cli: Cli, trained: Any, tmp_path: Path) -> None:
    out = tmp_path / "s.csv"
    result = cli("score", trained.path, "-o", out)
    reasons = [row["reason"] for row in table(out)]
    assert (reasons.count("trained on"), reasons.count("held out")) == (54, 6)
    assert "54 of 60 items were trained on" in result.err and "--cross-fit" in result.err
    copies = tmp_path / "copies"
    shutil.copytree(trained.data, copies / "under" / "other" / "names")
    assert cli("score", trained.path, "--data", copies, "--json").json["trained_on"] == 54


def test_formats_agree(cli: Cli, trained: Any, classed: Path, tmp_path: Path) -> None:
    score = ("score", trained.path, "--data", classed, "-o")
    cli(*score, tmp_path / "s.csv")
    cli(*score, tmp_path / "s.jsonl")
    cli(*score, tmp_path / "s.parquet")
    assert cli(*score, "-").out == (tmp_path / "s.csv").read_text()
    lines = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == [row["path"] for row in table(tmp_path / "s.csv")]


def test_how_well_a_class_is_told_from_others(cli: Cli, trained: Any, classed: Path) -> None:
    out = classed.parent / "s.csv"
    values = cli("score", trained.path, "--data", classed, "--normal", "disc", "-o", out, "--json").json
    rows = [row for row in table(out) if row["score"]]
    truth = roc_auc_score([row["class"] != "disc" for row in rows], [float(row["score"]) for row in rows])
    assert values["auroc"]["value"] == pytest.approx(truth)
    assert values["auroc"]["low"] <= truth <= values["auroc"]["high"]
    lines = {line["metric"]: line for line in Directory(trained.path).read_metrics()}
    assert lines["auroc"]["value"] == pytest.approx(truth) and lines["auroc"]["n_normal"] == 12
    assert lines["f1"]["flag"] == pytest.approx(1 / 6)
    for wrong, word in (("no such", "no class"), ("disc", "no items of other classes")):
        (only := classed.parent / "only").mkdir(exist_ok=True)
        if wrong == "disc":
            shutil.copytree(classed / "disc", only / "disc")
        where = only if wrong == "disc" else classed
        assert_clear_error(cli.run("score", trained.path, "--data", where, "--normal", wrong), 2, word)
    flat = trained.data
    assert_clear_error(cli.run("score", trained.path, "--data", flat, "--normal", "x"), 2, "no classes")


def test_pictures(cli: Cli, trained: Any, classed: Path, tmp_path: Path) -> None:
    picture, maps = tmp_path / "p.png", tmp_path / "maps"
    cli("score", trained.path, "--data", classed, "--picture", picture, "--heatmaps", maps)
    assert np.asarray(Image.open(picture)).shape[0] > 6 * 64
    assert len([*maps.iterdir()]) == 18 and (maps / "disc_00.png").exists()
    checkpoint = raectl.load(trained.path, "cpu")
    item = checkpoint.open_data(classed, max_bad=1.0).items[:1]
    x, x_hat = (np.array(i[0]) / 255 for i in (item, checkpoint.reconstruct(item)))
    error = uniform_filter(((x - x_hat) ** 2).mean(axis=2), 5)[2:-2, 2:-2]
    shown = np.asarray(Image.open(maps / "disc_00.png")).astype(float)
    redness = ((shown[..., 0] - shown[..., 1]) / (20 + shown[..., 0]))[2:-2, 2:-2]
    assert np.corrcoef(redness.ravel(), np.sqrt(error).ravel())[0, 1] > 0.8


def test_a_flag_needs_enough_held_out_items(cli: Cli, trained: Any, classed: Path) -> None:
    score = ("score", trained.path, "--data", classed, "--flag")
    assert_clear_error(cli.run(*score, "1%"), 2, "finer than 6 held-out items", "100 items")
    assert cli(*score, "20%", "--json").json["flag"] == 0.2
    assert cli(*score, "0.2", "--json").json["flag"] == 0.2
    for wrong in ("many", "1%%", "0", "100%", "nan"):
        assert_clear_error(cli.run(*score, wrong), 2, "--flag")


def test_typical_items_can_be_named(cli: Cli, trained: Any, classed: Path, tmp_path: Path) -> None:
    typical = tmp_path / "typical"
    typical.mkdir()
    for index in range(150):
        Image.fromarray(picture(900 + index, 16)).save(typical / f"{index}.png")
    score = ("score", trained.path, "--data", classed, "--json", "--reference")
    assert cli(*score, typical, "--flag", "1%").json["typical"] == 150
    result = cli(*score, trained.data)
    assert result.json["typical"] == 6 and "54 of 60 items" in result.err
    train, _ = raectl.load(trained.path).split(np.empty((60, 1)))
    seen = tmp_path / "seen"
    seen.mkdir()
    for row in train:
        name = raectl.open_dataset(trained.data).names[row]
        shutil.copy(trained.data / name, seen / Path(name).name)
    assert_clear_error(cli.run(*score[:-2], "--reference", seen), 1, "were trained on", "--reference")


def test_nothing_held_out_is_an_error_with_a_remedy(cli: Cli, trained: Any, classed: Path, tmp_path: Path) -> None:
    out = tmp_path / "all"
    options = ("--val-fraction", 0, "--epochs", 1, "--width", 2, "--latent-dim", 2, "--image-size", 16)
    cli("train", "--data", trained.data, "--out", out, *options)
    cli("fit-density", out, "--density", "gaussian")
    assert_clear_error(
        cli.run("score", out, "--data", classed), 1, "held out no items", "--reference", "--val-fraction"
    )
    assert cli("score", out, "--data", classed, "--reference", trained.data / "..", "--json").code == 0


def test_scores_stay_when_the_training_data_are_gone(cli: Cli, tmp_path: Path, classed: Path) -> None:
    from support.cli import write_pictures

    data, out = write_pictures(tmp_path / "data", 40, sizes=(16,)), tmp_path / "ckpt"
    cli("train", "--data", data, "--out", out, "--epochs", 1, "--width", 2, "--latent-dim", 2)
    cli("fit-density", out, "--density", "gaussian")
    moved = Path(shutil.copytree(out, tmp_path / "never scored"))
    before = cli("score", out, "--data", classed, "-o", "-").out
    shutil.rmtree(data)
    assert cli("score", out, "--data", classed, "-o", "-").out == before
    assert_clear_error(cli.run("score", moved, "--data", classed), 1, "needed once", "--reference")


def test_without_a_density_the_command_to_fit_one_is_named(cli: Cli, trained: Any, classed: Path) -> None:
    shutil.rmtree(trained.path / "densities")
    assert_clear_error(cli.run("score", trained.path, "--data", classed), 1, "fit-density")


def test_strict_stops_at_a_bad_item(cli: Cli, trained: Any, classed: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.csv"
    score = ("score", trained.path, "-o", out, "--strict")
    assert_clear_error(cli.run(*score, "--data", classed), 1, "could not be read")
    assert not out.exists()
    assert_clear_error(cli.run(*score), 2, "--strict", "--data")
    (classed / "disc" / "05-bad.png").unlink()
    (classed / "noise" / "z.png").unlink()
    cli(*score, "--data", classed)


def test_wrong_outputs_are_refused_before_any_work(cli: Cli, trained: Any, tmp_path: Path) -> None:
    score = ("score", trained.path, "--data", "no such source")
    assert_clear_error(cli.run(*score, "-o", tmp_path / "s.xlsx"), 2, "no table")
    assert_clear_error(cli.run(*score, "-o", tmp_path / "no" / "s.csv"), 1, "mkdir")
    assert_clear_error(cli.run(*score, "--picture", tmp_path / "p.doc"), 2, "cannot write")
    assert_clear_error(cli.run(*score, "--heatmaps", tmp_path), 1, "not empty")
    result = cli.run(*score, "-o", "-", "--json")
    assert result.code == 2 and "stdout" in json.loads(result.out)["error"]


def test_strings_are_scored_by_their_text(cli: Cli, tmp_path: Path) -> None:
    data, out = write_lines(tmp_path / "lines.txt", 120), tmp_path / "ckpt"
    cli("train", "--data", data, "--grammar", "expressions", "--out", out, "--epochs", 1, "--latent-dim", 2)
    cli("fit-density", out, "--density", "gaussian")
    new = tmp_path / "new.txt"
    new.write_text("x+1\nno such\nsin(x)*2\n")
    rows = list(csv.DictReader(io.StringIO(cli("score", out, "--data", new, "-o", "-").out)))
    assert [row["path"] for row in rows] == ["x+1", "line 2", "sin(x)*2"]
    assert rows[1]["reason"].startswith("no such: ") and not rows[1]["score"]
    checkpoint = raectl.load(out, "cpu")
    items = checkpoint.open_data(new, max_bad=1.0).items
    scores = checkpoint.score(items)
    x = checkpoint.modality.to_tensor(__import__("torch").from_numpy(np.array(items)))
    p = checkpoint.decode(checkpoint.encode(items)) * checkpoint.modality.alternatives(x)
    true = ((p * x).sum(2) / p.sum(2)).log()
    lengths = (np.array(items) != checkpoint.modality.grammar.padding).sum(axis=1)
    nll = [-float(true[i, : lengths[i]].sum()) for i in range(2)]
    held_out = checkpoint.open_data().items[checkpoint.split(checkpoint.open_data().items)[1]]
    floor = 1e-5 * (held_out != checkpoint.modality.grammar.padding).sum(axis=1).mean()
    np.testing.assert_allclose(scores.error, nll / (lengths + floor), rtol=1e-4)
    cli("score", out, "--data", new, "--picture", tmp_path / "p.txt")
    assert (tmp_path / "p.txt").read_text().startswith("oddest\t")
    assert_clear_error(cli.run("score", out, "--data", new, "--heatmaps", tmp_path / "maps"), 2, "--heatmaps")


def test_bad_molecules_stand_in_their_places_between_blank_lines(cli: Cli, tmp_path: Path) -> None:
    chains = [f"{'C' * n}{end}" for n in range(1, 9) for end in "ONFS"]
    data, new, out = tmp_path / "m.smi", tmp_path / "new.smi", tmp_path / "ckpt"
    data.write_text("\n".join(chains) + "\n")
    new.write_text("CCO\n\nCCCO\n\n\nzz\nCO\n\nqq\nCCCCO\n")
    cli("train", data, "--out", out, "--epochs", 1, "--latent-dim", 2)
    cli("fit-density", out, "--density", "gaussian")
    rows = list(csv.DictReader(io.StringIO(cli("score", out, "--data", new, "-o", "-").out)))
    assert [row["path"] for row in rows] == ["CCO", "CCCO", "line 6", "CO", "line 9", "CCCCO"]


def test_data_are_not_written_into(cli: Cli, trained: Any, classed: Path, tmp_path: Path) -> None:
    score = ("score", trained.path, "--data", classed)
    for option in ("-o", "--picture", "--heatmaps"):
        name = {"-o": "s.csv", "--picture": "p.png", "--heatmaps": "maps"}[option]
        assert_clear_error(cli.run(*score, option, classed / name), 1, "lies in the data")
        assert_clear_error(cli.run(*score, option, trained.data / name), 1, "lies in the data")
    assert_clear_error(cli.run(*score, "--heatmaps", tmp_path / "maps.png"), 2, "is to be a directory")
    near = ("nearest", trained.path, "--samples", classed, "-o")
    (classed / "disc" / "05-bad.png").unlink()
    (classed / "noise" / "z.png").unlink()
    assert_clear_error(cli.run(*near, classed / "near.png"), 1, "lies in the data")
    sample = ("sample", trained.path, "-o", tmp_path / "s.npz", "--nearest")
    assert_clear_error(cli.run(*sample, trained.data / "near.png"), 1, "lies in the data")
    assert not (tmp_path / "s.npz").exists()


def test_one_held_out_item_calibrates_nothing(cli: Cli, trained: Any, classed: Path, tmp_path: Path) -> None:
    out = tmp_path / "few"
    cli("train", classed / "disc", "--out", out, "--epochs", 1, "--width", 2, "--latent-dim", 2)
    cli("fit-density", out, "--density", "gaussian")
    assert_clear_error(cli.run("score", out, "--data", classed), 1, "1 typical item is too few", "--reference")


def test_a_cache_that_is_no_calibration_is_computed_again(cli: Cli, trained: Any, classed: Path) -> None:
    before = cli("score", trained.path, "--data", classed, "-o", "-").out
    (path,) = [p for p in (trained.path / "latents").glob("*.safetensors") if "energy" in read_arrays(p, Any)[0]]
    _, key = read_arrays(path, Any)
    for wrong in (np.ones(3, np.float32), np.empty(0), -np.ones(6), np.ones((6, 1))):
        write_arrays(path, dict.fromkeys(("deviation", "energy", "log_density"), wrong), key)
        assert cli("score", trained.path, "--data", classed, "-o", "-").out == before


def test_marks_that_are_lost_are_said_to_be(cli: Cli, trained: Any, classed: Path) -> None:
    Directory(trained.path).items.unlink()
    result = cli("score", trained.path, "--data", classed, "--json")
    assert result.json["trained_on"] is None and "are not recognised" in result.err


def test_a_vae_is_scored_by_its_prior(cli: Cli, trained: Any, classed: Path, tmp_path: Path) -> None:
    out = tmp_path / "vae"
    cli(
        "train", "--data", trained.data, "--model", "vae", "--out", out, "--epochs", 1, "--width", 2, "--image-size", 16
    )
    assert cli("score", out, "--data", classed, "--json").json["n"] == 18
