"""Scores of the training data by models that have not seen them."""

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.checkpoints import edit
from support.cli import SMALL, Cli, assert_clear_error

import raectl
from raectl.checkpoint.items import read_known
from raectl.data import split


@pytest.mark.parametrize(("n", "k"), [(10, 2), (60, 3), (61, 7), (100, 100)])
def test_folds_are_disjoint_and_all_items(n: int, k: int) -> None:
    parts = [split(n, 1 / k, 5, fold) for fold in range(k)]
    assert np.array_equal(np.sort(np.concatenate([held_out for _, held_out in parts])), np.arange(n))
    for train, held_out in parts:
        assert np.array_equal(np.sort(np.concatenate([train, held_out])), np.arange(n))
        assert abs(len(held_out) - n / k) < 1


def test_each_item_is_scored_by_a_model_that_has_not_seen_it(cli: Cli, trained: Any, tmp_path: Path) -> None:
    out = tmp_path / "s.csv"
    first = cli("score", trained.path, "--cross-fit", 3, "-o", out)
    rows = list(csv.DictReader(out.read_text().splitlines()))
    items = raectl.load(trained.path, "cpu").open_data().items
    by_fold = np.zeros(60, int)
    for fold in range(3):
        model = raectl.load(trained.path / "cross-fit" / f"{fold + 1}-of-3", "cpu")
        assert model.config.replace(val_fraction=0.1, fold=0, max_bad=0.01) == raectl.load(trained.path).config
        assert model.densities() == ("gmm-2",)
        known = read_known(model.directory.items, model.config)
        trained_on, held_out = known.among(items)
        assert not (trained_on & held_out).any() and held_out.sum() == 20
        by_fold += held_out
        log_density = model.log_prob(items[held_out]).numpy()
        np.testing.assert_allclose(
            [float(rows[i]["log_density"]) for i in np.flatnonzero(held_out)], log_density, rtol=1e-5
        )
    assert (by_fold == 1).all()
    score = np.array([float(row["score"]) for row in rows])
    percentile = np.array([float(row["percentile"]) for row in rows])
    np.testing.assert_allclose(
        percentile, [100 * ((score < s).mean() + (score == s).mean() / 2) for s in score], rtol=1e-6
    )
    assert not any(row["reason"] for row in rows)
    assert "model 3 of 3" in first.err and "epoch 2/2" in first.err
    again = cli("score", trained.path, "--cross-fit", 3, "-o", tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == out.read_bytes()
    assert "epoch 2/2" not in again.err, "nothing is trained twice"


@pytest.mark.parametrize("damage", ["weights", "density", "seed"])
def test_a_damaged_or_outdated_fold_is_made_anew(cli: Cli, trained: Any, tmp_path: Path, damage: str) -> None:
    score = ("score", trained.path, "--cross-fit", 2, "-o")
    cli(*score, tmp_path / "a.csv")
    fold = trained.path / "cross-fit" / "1-of-2"
    if damage == "weights":
        (fold / "model.safetensors").write_bytes(b"no weights")
    elif damage == "density":
        (fold / "densities" / "gmm-2" / "density.safetensors").unlink()
    else:
        cli("fit-density", trained.path, "--components", 2, "--seed", 7)
    cli(*score, tmp_path / "b.csv")
    assert ((tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()) == (damage != "seed")


def test_what_raectl_did_not_make_is_not_replaced(cli: Cli, trained: Any, tmp_path: Path) -> None:
    other = Path(shutil.copytree(trained.path, tmp_path / "other"))
    before = {path: path.read_bytes() for path in other.rglob("*") if path.is_file()}
    folds = trained.path / "cross-fit"
    folds.mkdir()
    (folds / "1-of-2").symlink_to(other)
    assert_clear_error(cli.run("score", trained.path, "--cross-fit", 2), 1, "is a link out of the directory")
    assert {path: path.read_bytes() for path in other.rglob("*") if path.is_file()} == before
    (folds / "1-of-2").unlink()
    (folds / "1-of-2").mkdir()
    (folds / "1-of-2" / "mine.txt").write_text("kept")
    assert_clear_error(cli.run("score", trained.path, "--cross-fit", 2), 1, "is no checkpoint directory")
    assert (folds / "1-of-2" / "mine.txt").read_text() == "kept"


def test_options_are_checked_before_any_training(cli: Cli, trained: Any) -> None:
    score = ("score", trained.path, "--cross-fit", 2)
    assert_clear_error(cli.run(*score, "--density", "typo"), 1, "no density 'typo'")
    assert_clear_error(cli.run(*score, "--flag", "1%"), 2, "finer than 60")
    shutil.rmtree(trained.path / "densities")
    result = cli.run(*score)
    assert_clear_error(result, 1, "fit-density", str(trained.path))
    assert "epoch" not in result.err and not (trained.path / "cross-fit").exists()


def test_the_device_is_the_one_asked_for(cli: Cli, trained: Any, tmp_path: Path) -> None:
    edit(trained.path / "config.json", lambda record: record["config"].update(device="cuda"))
    cli("score", trained.path, "--cross-fit", 2, "--device", "cpu", "-o", tmp_path / "s.csv")


def test_bad_items_do_not_stop_it(cli: Cli, trained: Any, tmp_path: Path) -> None:
    data = Path(shutil.copytree(trained.data, tmp_path / "data"))
    for index in range(7):
        (data / f"bad-{index}.png").write_bytes(b"")
    cli("train", data, "--max-bad", 0.5, *SMALL, "--out", tmp_path / "c")
    cli("fit-density", tmp_path / "c", "--density", "gaussian")
    values = cli("score", tmp_path / "c", "--data", data, "--cross-fit", 2, "--json").json
    assert (values["n"], values["bad"]) == (60, 7)


def test_copies_in_other_parts_are_marked(cli: Cli, tmp_path: Path) -> None:
    items = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    items[30:] = items[0]
    np.save(tmp_path / "x.npy", items)
    net = ("--width", 2, "--latent-dim", 2, "--epochs", 1, "--device", "cpu")
    cli("train", tmp_path / "x.npy", *net, "--out", tmp_path / "ckpt")
    cli("fit-density", tmp_path / "ckpt", "--density", "gaussian")
    cli("score", tmp_path / "ckpt", "--cross-fit", 2, "-o", tmp_path / "s.csv")
    reasons = [row["reason"] for row in csv.DictReader((tmp_path / "s.csv").read_text().splitlines())]
    assert reasons == ["a copy of it was trained on"] + [""] * 29 + ["a copy of it was trained on"] * 10
    result = cli("score", tmp_path / "ckpt", "--data", tmp_path / "x.npy", "--json")
    _, held_out = split(40, 0.1, 0)
    copies = sum(row == 0 or row >= 30 for row in held_out)
    assert result.json["typical"] == 4 - copies and bool(copies) == ("are left out" in result.err)


def test_where_it_does_not_suit(cli: Cli, trained: Any, tmp_path: Path) -> None:
    score = ("score", trained.path, "--cross-fit")
    assert_clear_error(cli.run(*score, 1), 2, "--cross-fit 1 is out of range")
    assert_clear_error(cli.run(*score, 31), 2, "two items a part")
    assert_clear_error(cli.run(*score, 2, "--data", "digits"), 2, "--cross-fit is for the data of the training")
    assert_clear_error(cli.run(*score, 2, "--reference", trained.data), 2, "--reference")


def test_an_option_that_names_no_part_is_refused(cli: Cli, trained: Any, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("fold = 4\nval-fraction = 0.25\n")
    result = cli.run("train", "--data", trained.data, "--config", tmp_path / "c.toml", "--out", tmp_path / "o")
    assert_clear_error(result, 2, "fold 4", "fold 0")
