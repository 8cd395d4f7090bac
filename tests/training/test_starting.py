"""`train --from`: the weights and options of another run, what is held out, its lineage, and what does not suit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.checkpoints import SMALL
from support.cli import Cli

import raectl
from raectl.errors import RaectlError, UsageError
from raectl.progress import Progress
from raectl.storage.arrays import read_arrays
from raectl.training.starting import Start

BASE = {**SMALL, "epochs": 3, "reg": "tikhonov=1e-3", "patience": 0}


def images(n: int, seed: int = 0, channels: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = np.linspace(0, 3, 12)[None, :, None, None] * rng.uniform(0.5, 2, (n, 1, 1, channels))
    return (np.sin(rows + np.linspace(0, 2, 12)[None, None, :, None]) * 100 + 128).astype(np.uint8)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return raectl.train(raectl.Config(**BASE), images(60), tmp_path_factory.mktemp("first") / "ckpt")


class Told(Progress):
    """Keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def told() -> Told:
    return Told()


def weights(path: Path) -> dict[str, np.ndarray]:
    return read_arrays(path / "model.safetensors", Any)[0]


def test_options_are_the_other_run_s_but_those_of_data_and_length(first: Any, tmp_path: Path) -> None:
    more = np.concatenate([images(60), images(60, 1)])
    second = raectl.train(raectl.Config(epochs=1, lr=5e-4), more, tmp_path / "ckpt", start=first.directory.path)
    assert (second.config.width, second.config.latent_dim, second.config.reg) == (2, 4, first.config.reg)
    assert (second.config.lr, second.config.epochs, second.config.patience) == (5e-4, 1, 143)
    (ancestor,) = second.lineage
    assert (ancestor.weights, ancestor.epoch, ancestor.n) == (first.weights, first.epoch, 60)
    assert f"of a model of 60 images, SHA-256 `{first.weights}`" in (tmp_path / "ckpt/README.md").read_text()
    third = raectl.train(raectl.Config(epochs=1), more, tmp_path / "third", start=tmp_path / "ckpt")
    assert [a.weights for a in third.lineage] == [first.weights, second.weights]


def test_items_that_the_other_run_was_trained_on_are_not_held_out(first: Any, tmp_path: Path) -> None:
    old, more = images(60), np.concatenate([images(30, 1), images(60)])
    trained_on, _ = first.split(old)
    second = raectl.train(raectl.Config(epochs=1, val_fraction=0.3), more, tmp_path / "a", start=first.directory.path)
    train, held_out = second.split(more)
    assert len(held_out) == 6 + 9, "what was held out before, and three tenths of the new ones"
    assert sorted([*train, *held_out]) == list(range(90)) and np.sum(train < 30) == 21
    assert not {row.tobytes() for row in more[held_out]} & {row.tobytes() for row in old[trained_on]}
    seen = second.seen(np.concatenate([more, images(5, 9)]))
    assert (seen.trained_on, seen.held_out) == (75, 15)
    assert "| held out for validation | 15 items |" in (tmp_path / "a/README.md").read_text()
    third = raectl.train(raectl.Config(epochs=1), images(30, 5), tmp_path / "b", start=tmp_path / "a")
    assert third.seen(old[trained_on]).trained_on == len(trained_on), "by the first run, two generations ago"


def test_it_ends_no_worse_than_it_began(first: Any, tmp_path: Path, told: Told) -> None:
    bad = raectl.Config(epochs=2, lr=1.0, optimizer="adam")
    second = raectl.train(bad, images(60), tmp_path / "ckpt", start=first.directory.path, progress=told)
    assert second.epoch == 0
    for name, array in weights(first.directory.path).items():
        np.testing.assert_array_equal(weights(tmp_path / "ckpt")[name], array)
    fit = second.fit_density("gaussian", progress=told)
    assert not any("initial weights" in line for line in told.notes) and fit.n_train == 54


def test_what_was_trained_on_wholly_is_said(first: Any, tmp_path: Path, told: Told) -> None:
    trained_on, _ = first.split(images(60))
    raectl.train(
        raectl.Config(epochs=1), images(60)[trained_on], tmp_path / "c", start=first.directory.path, progress=told
    )
    assert any("the held-out ones are not new to the model" in line for line in told.notes)


def test_resumed_anywhere_it_ends_with_the_same_bits(first: Any, tmp_path: Path) -> None:
    more, start = np.concatenate([images(60), images(40, 1)]), first.directory.path
    config = raectl.Config(epochs=4, augment="flip,shift")
    raectl.train(config, more, tmp_path / "whole", start=start)
    raectl.train(config.replace(epochs=2), more, tmp_path / "parts", start=start)
    raectl.train(config, more, tmp_path / "parts", resume=True)
    for name, array in weights(tmp_path / "whole").items():
        np.testing.assert_array_equal(weights(tmp_path / "parts")[name], array)


@pytest.mark.parametrize("length", [5, 100])
def test_a_reconstruction_term_goes_on_where_it_was(tmp_path: Path, length: int) -> None:
    """An unbearable rate makes every epoch worse than the start, if that can be compared with them: if the first run
    had come to the last form of the term. Else the last epoch's weights are kept until it has."""
    l1 = {"name": "l1", "start": 1, "length": length}
    raectl.train(raectl.Config(**{**BASE, "reconstruction": l1}), images(60), tmp_path / "a")  # 12 steps
    second = raectl.train(
        raectl.Config(epochs=2, lr=1.0, optimizer="adam"), images(60), tmp_path / "b", start=tmp_path / "a"
    )
    assert second.config.reconstruction == l1 and second.epoch == (0 if length == 5 else 2)
    assert second.lineage[0].settled == (length == 5)
    other = raectl.Config(epochs=1, reconstruction={**l1, "length": 6})
    assert not raectl.train(other, images(60), tmp_path / "c", start=tmp_path / "a").lineage[0].settled


def test_typed_defaults_are_not_the_other_run_s(cli: Cli, first: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "more.npy", images(80, 3))
    other = tmp_path / "other"
    cli(
        *("train", tmp_path / "more.npy", "--reg", "tikhonov", "--lr", 5e-4, "--optimizer", "adam", "--average", 0),
        *("--width", 2, "--latent-dim", 4, "--epochs", 1, "--image-size", 12, "--out", other),
    )
    dry = ("train", tmp_path / "more.npy", "--from", other, "--dry-run")
    kept = cli(*dry).json["config"]
    assert (list(kept["reg"]), kept["lr"], kept["optimizer"], kept["average"]) == (["tikhonov"], 5e-4, "adam", 0.0)
    kept = cli(*dry, "--latent-dim", 4, "--arch", "linear-conv", "--beta", 1e-3).json["config"]
    assert (list(kept["reg"]), kept["lr"], kept["optimizer"], kept["average"]) == (["tikhonov"], 5e-4, "adam", 0.0)
    typed = ("--reg", "none", "--lr", 1e-3, "--optimizer", "muon", "--average", 0.99)
    config = cli(*dry, *typed).json["config"]
    assert (config["reg"], config["lr"], config["optimizer"], config["average"]) == ({}, 1e-3, "muon", 0.99)


def test_what_was_held_out_stays_so_and_of_new_items_a_share_is(tmp_path: Path) -> None:
    old, new = images(100), images(20, 8)
    for share, names in ((0.1, "ab"), (0.0, "cd")):
        first, second = (tmp_path / name for name in names)
        raectl.train(raectl.Config(**{**BASE, "epochs": 1, "val_fraction": share}), old, first)
        for seed, both in enumerate((np.concatenate([old, new]), np.concatenate([new, old]))):
            config = raectl.Config(epochs=1, seed=seed)
            result = raectl.train(config, both, second, start=first, overwrite=True)
            held_out = both[result.split(both)[1]]
            is_new = np.isin([row.tobytes() for row in held_out], [row.tobytes() for row in new])
            assert (is_new.sum(), len(held_out)) == (2, 2 + 100 * share)


def test_the_same_directory_and_one_without_an_epoch_are_refused(first: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--from and --out are both"):
        raectl.train(raectl.Config(), images(60), first.directory.path, start=first.directory.path, overwrite=True)
    again = raectl.train(raectl.Config(epochs=1), images(60), tmp_path / "a", start=first.directory.path)
    assert again.lineage[0].checkpoint == str(first.directory.path.resolve())


def test_other_pixels_are_said(first: Any, tmp_path: Path, told: Told) -> None:
    def begin(fit: str) -> list[str]:
        start = Start.read(first.directory.path, {"fit": fit, "epochs": 1}, {"fit", "epochs"})
        raectl.train(raectl.Config(), images(60), tmp_path / fit, start=start, progress=told)
        return [line for line in told.notes if "too low" in line]

    assert not begin("crop"), "typed, and the same"
    (line,) = begin("pad")
    assert "another --fit than" in line


def test_a_start_that_no_epoch_betters_can_be_sharpened(first: Any, tmp_path: Path, cli: Cli) -> None:
    bad = raectl.Config(epochs=1, lr=1.0, optimizer="adam", sharpen=True)
    second = raectl.train(bad, images(60), tmp_path / "a", start=first.directory.path)
    assert second.epoch == 0 and second.directory.sharpening.exists()
    shown = cli("info", tmp_path / "a").out
    assert "none is better than the weights at the start" in shown and str(first.directory.path) in shown.replace(
        "\n", ""
    )


def test_digests_of_other_data_are_refused(first: Any, tmp_path: Path) -> None:
    import shutil

    from raectl.checkpoint.items import digests_of, write_items

    shutil.copytree(first.directory.path, tmp_path / "a")
    write_items(tmp_path / "a/items.safetensors", digests_of(raectl.open_dataset(images(3))))
    with pytest.raises(RaectlError, match="3 digests of 60 items"):
        raectl.train(raectl.Config(epochs=1), images(60), tmp_path / "b", start=tmp_path / "a")


@pytest.mark.parametrize(
    ("given", "named"), [({"width": 3}, "--width"), ({"model": "vae", "latent_dim": 5}, "--model and --latent-dim")]
)
def test_another_net_is_refused(first: Any, tmp_path: Path, given: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        raectl.train(raectl.Config(**given), images(60), tmp_path / "ckpt", start=first.directory.path)
    assert not (tmp_path / "ckpt").exists()


def test_other_items_are_refused(first: Any, tmp_path: Path) -> None:
    with pytest.raises(RaectlError, match=r"items of shape \(12, 12, 3\) do not suit the weights"):
        raectl.train(raectl.Config(), images(60, channels=3), tmp_path / "ckpt", start=first.directory.path)


def test_digests_are_needed_where_there_is_a_lineage(first: Any, tmp_path: Path) -> None:
    second = raectl.train(raectl.Config(epochs=1), images(60), tmp_path / "ckpt", start=first.directory.path)
    (tmp_path / "ckpt/items.safetensors").write_bytes(b"damaged")
    with pytest.raises(RaectlError, match=r"items\.safetensors"):
        second.fit_density("gaussian")


def test_the_command(cli: Cli, first: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "more.npy", images(80, 3))
    asked = ("train", tmp_path / "more.npy", "--from", first.directory.path, "--epochs", 1, "--out", tmp_path / "ckpt")
    assert cli(*asked, "--dry-run").json["config"]["width"] == 2
    cli(*asked)
    assert cli("info", tmp_path / "ckpt", "--json").json["lineage"][0]["weights"] == first.weights
    failed = cli.run(*asked, "--resume")
    assert "--from is for a new run" in failed.err
