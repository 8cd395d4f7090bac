"""The training items that samples are nearest to, against brute force."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.cli import Cli, assert_clear_error, write_pictures
from support.strings import write_lines

import raectl
from raectl.generation import nearest
from raectl.generation.nearest import compare_with_training
from raectl.progress import Progress


@pytest.mark.parametrize(("block", "numbers"), [(1024, 2**25), (7, 5000)])
def test_neighbours_are_those_of_brute_force(
    trained: Any, monkeypatch: pytest.MonkeyPatch, block: int, numbers: int
) -> None:
    monkeypatch.setattr(nearest, "_BLOCK", block)
    monkeypatch.setattr(nearest, "_NUMBERS", numbers)
    checkpoint = raectl.load(trained.path, "cpu")
    training = checkpoint.open_data()
    samples = checkpoint.sample(20, seed=1)
    found = compare_with_training(checkpoint, samples, training)
    rows, held_out = checkpoint.split(training.items)
    x, y = training.items[rows].reshape(54, -1) / 255.0, samples.reshape(20, -1) / 255.0
    distance = np.sqrt(((y[:, None] - x) ** 2).mean(axis=2))
    order = np.argsort(distance, axis=1)[:, :3]
    np.testing.assert_allclose(found.values.distance, np.take_along_axis(distance, order, 1), rtol=1e-5)
    assert np.array_equal(found.values.rows, rows[order])
    z, codes = checkpoint.encode(samples), checkpoint.encode(training.items[rows])
    assert np.array_equal(found.latents.rows, rows[torch.cdist(z, codes).topk(3, largest=False).indices.numpy()])
    assert len(found.held_out) == len(held_out) == 6
    assert found.names == tuple(training.names[row] for row in found.values.rows[:, 0])
    assert found.copied is not None and 0 <= found.copied.value <= 1


def test_copies_are_at_distance_0_and_say_so(cli: Cli, trained: Any, tmp_path: Path) -> None:
    checkpoint = raectl.load(trained.path, "cpu")
    training = checkpoint.open_data()
    rows, _ = checkpoint.split(training.items)
    np.savez(tmp_path / "copies.npz", images=training.items[rows[:10]])
    out = tmp_path / "near.png"
    result = cli("nearest", trained.path, "--samples", tmp_path / "copies.npz", "-o", out, "--json").json
    assert result["equal"] == result["n"] == 10
    assert [near["item"] for near in result["nearest"]] == [training.names[row] for row in rows[:10]]
    assert all(near["distance"] == 0 for near in result["nearest"]) and result["held_out_distance"] > 0
    Image.open(out).load()


def test_a_copy_comes_first_among_near_copies() -> None:
    """Single precision cannot tell a copy from an item that differs by a grey level in one of 3,072 values."""
    rng = np.random.default_rng(0)
    originals = rng.integers(0, 255, (40, 3072)).astype(np.uint8)
    items = originals.repeat(5, axis=0)
    for index in range(len(items)):
        items[index, rng.integers(3072)] += index % 5 > 0
    order = rng.permutation(len(items))
    values = torch.from_numpy(items[order] / np.float32(255))
    queries = torch.from_numpy(originals / np.float32(255))
    found = nearest._nearest(queries, lambda rows: values[rows], np.arange(len(items)), Progress())
    assert (found.distance[:, 0] == 0).all()
    assert (order[found.rows[:, 0]] == 5 * np.arange(40)).all()
    assert (np.diff(found.distance, axis=1) >= 0).all()


def test_data_that_moved_are_named(cli: Cli, tmp_path: Path) -> None:
    data, out = write_pictures(tmp_path / "data", 30, sizes=(16,)), tmp_path / "ckpt"
    cli("train", data, "--out", out, "--epochs", 1, "--width", 2, "--latent-dim", 2)
    moved = data.rename(tmp_path / "moved")
    run = ("nearest", out, "--samples", moved, "-o", tmp_path / "near.png")
    assert_clear_error(cli.run(*run), 1, "--data SOURCE")
    assert cli(*run, "--data", moved, "--json").json["equal"] == 27
    assert_clear_error(
        cli.run(*run, "--data", write_pictures(tmp_path / "others", 9, sizes=(16,))), 1, "is not the data"
    )


def test_sample_shows_the_same(cli: Cli, trained: Any, tmp_path: Path) -> None:
    samples, a, b = tmp_path / "s.npz", tmp_path / "a.png", tmp_path / "b.png"
    values = cli("sample", trained.path, "-n", 30, "-o", samples, "--nearest", a, "--json").json
    alone = cli("nearest", trained.path, "--samples", samples, "-o", b, "--json").json
    assert {**values["nearest"], "out": ""} == {**alone, "out": ""}
    assert a.read_bytes() == b.read_bytes()
    assert "0.5 if nothing is copied" in cli("nearest", trained.path, "--samples", samples, "-o", b).err


def test_strings_have_neighbours(cli: Cli, tmp_path: Path) -> None:
    data, out = write_lines(tmp_path / "lines.txt", 60), tmp_path / "ckpt"
    cli("train", "--data", data, "--grammar", "expressions", "--out", out, "--epochs", 1, "--latent-dim", 2)
    text = tmp_path / "near.txt"
    values = cli("nearest", out, "--samples", data, "-o", text, "--json").json
    assert values["equal"] == 54
    lines = [line.split("\t") for line in text.read_text().splitlines()]
    assert [line[0] for line in lines[:2]] == ["sample", "1. by productions"] and lines[0][1:] == lines[1][1:]


def test_what_cannot_be_shown_is_refused(cli: Cli, trained: Any, tmp_path: Path) -> None:
    run = ("nearest", trained.path, "--samples", trained.data, "-o")
    assert_clear_error(cli.run(*run, tmp_path / "x.doc"), 2, "cannot write")
    assert_clear_error(cli.run(*run, tmp_path / "x.npz"), 2, "picture")
    sample = ("sample", trained.path, "-o", tmp_path / "s.npz", "--nearest", tmp_path / "x.png", "--draws", 2)
    assert_clear_error(cli.run(*sample), 2, "--nearest")
