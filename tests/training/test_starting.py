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

BASE = {**SMALL, "epochs": 3, "reg": "tikhonov=1e-3", "patience": 0}


def images(n: int, seed: int = 0, channels: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = np.linspace(0, 3, 12)[None, :, None, None] * rng.uniform(0.5, 2, (n, 1, 1, channels))
    return (np.sin(rows + np.linspace(0, 2, 12)[None, None, :, None]) * 100 + 128).astype(np.uint8)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return raectl.train(raectl.Config(**BASE), images(60), tmp_path_factory.mktemp("first") / "ckpt")


def weights(path: Path) -> dict[str, np.ndarray]:
    return read_arrays(path / "model.safetensors", Any)[0]


def test_options_are_the_other_run_s_but_those_of_data_and_length(first: Any, tmp_path: Path) -> None:
    more = np.concatenate([images(60), images(60, 1)])
    second = raectl.train(raectl.Config(epochs=1, lr=5e-4), more, tmp_path / "ckpt", start=first.directory.path)
    assert (second.config.width, second.config.latent_dim, second.config.reg) == (2, 4, first.config.reg)
    assert (second.config.lr, second.config.epochs, second.config.patience) == (5e-4, 1, 144)
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
    assert len(held_out) == 27 and sorted([*train, *held_out]) == list(range(90))
    assert not {row.tobytes() for row in more[held_out]} & {row.tobytes() for row in old[trained_on]}
    seen = second.seen(np.concatenate([more, images(5, 9)]))
    assert (seen.trained_on, seen.held_out) == (63, 27)
    third = raectl.train(raectl.Config(epochs=1), images(30, 5), tmp_path / "b", start=tmp_path / "a")
    assert third.seen(old[trained_on]).trained_on == len(trained_on), "by the first run, two generations ago"


def test_it_ends_no_worse_than_it_began(first: Any, tmp_path: Path) -> None:
    told: list[str] = []

    class Told(Progress):
        def note(self, text: str) -> None:
            told.append(text)

    bad = raectl.Config(epochs=2, lr=1.0, optimizer="adam")
    second = raectl.train(bad, images(60), tmp_path / "ckpt", start=first.directory.path, progress=Told())
    assert second.epoch == 0
    for name, array in weights(first.directory.path).items():
        np.testing.assert_array_equal(weights(tmp_path / "ckpt")[name], array)
    fit = second.fit_density("gaussian", progress=Told())
    assert not any("initial weights" in line for line in told) and fit.n_train == 54


def test_what_was_trained_on_wholly_is_said(first: Any, tmp_path: Path) -> None:
    told: list[str] = []

    class Told(Progress):
        def note(self, text: str) -> None:
            told.append(text)

    trained_on, _ = first.split(images(60))
    raectl.train(
        raectl.Config(epochs=1), images(60)[trained_on], tmp_path / "c", start=first.directory.path, progress=Told()
    )
    assert any("the held-out ones are not new to the model" in line for line in told)


def test_resumed_anywhere_it_ends_with_the_same_bits(first: Any, tmp_path: Path) -> None:
    more, start = np.concatenate([images(60), images(40, 1)]), first.directory.path
    config = raectl.Config(epochs=4, augment="flip,shift")
    raectl.train(config, more, tmp_path / "whole", start=start)
    raectl.train(config.replace(epochs=2), more, tmp_path / "parts", start=start)
    raectl.train(config, more, tmp_path / "parts", resume=True)
    for name, array in weights(tmp_path / "whole").items():
        np.testing.assert_array_equal(weights(tmp_path / "parts")[name], array)


def test_the_change_of_the_reconstruction_term_is_over(first: Any, tmp_path: Path) -> None:
    """So that the best epoch is sought from the first one on; an unbearable rate makes all of them worse."""
    bad = raectl.Config(epochs=2, lr=1.0, optimizer="adam", reconstruction={"name": "l1", "start": 100})
    assert raectl.train(bad, images(60), tmp_path / "a", start=first.directory.path).epoch == 0
    anew = {**BASE, "epochs": 2, "reconstruction": bad.reconstruction}
    assert raectl.train(raectl.Config(**anew), images(60), tmp_path / "b").epoch == 2


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
