"""A trained directory: latents, log and split, the best and the last weights, divergence, resuming, overwriting."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.checkpoints import SMALL, flip_value, train_settings
from support.cli import Cli, assert_clear_error, assert_same_run, no_leftovers, tree, write_pictures

import raectl
from raectl import registry
from raectl.checkpoint.checkpoint import Checkpoint
from raectl.checkpoint.directory import Directory
from raectl.config import as_typed
from raectl.data import open_dataset, split
from raectl.errors import RaectlError, UsageError
from raectl.storage.arrays import read_arrays, write_arrays
from raectl.training.loop import Loop
from raectl.training.run import train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("checkpoint") / "images", 60)


@pytest.fixture(scope="module")
def three_epochs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run of three epochs, and one of one epoch to be gone on with."""
    home = tmp_path_factory.mktemp("three")
    config = raectl.Config(**SMALL, reg="tikhonov", epochs=3, precision="fp32")
    whole = train(config, data, home / "whole").directory.path
    return whole, train(config.replace(epochs=1), data, home / "one").directory.path


# -- latents, log, split ---------------------------------------------------------------------------------------------


def test_latents_are_encoded_once(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(trained.path / "latents")
    counted: list[int] = []
    usual = Checkpoint.encode_blocks

    def counting(self: Checkpoint, items: Any) -> Any:
        counted.append(len(items))
        return usual(self, items)

    monkeypatch.setattr(Checkpoint, "encode_blocks", counting)
    checkpoint = raectl.load(trained.path, "cpu")
    first = checkpoint.fit_density("gaussian", name="first")
    assert counted == [60]
    again = raectl.load(trained.path, "cpu").fit_density("gaussian", name="again")
    assert counted == [60], "the second fit finds them"
    assert again.latents == first.latents
    (cache,) = (trained.path / "latents").iterdir()
    cache.write_bytes(flip_value(cache.read_bytes()))
    repaired = checkpoint.fit_density("gaussian", name="repaired")
    assert counted == [60, 60], "damaged, so encoded again"
    assert repaired.latents == first.latents
    arrays, metadata = read_arrays(cache, Any)
    write_arrays(cache, {"z": arrays["z"] + 1}, {**metadata, "weights": "0" * 64})
    other = checkpoint.fit_density("gaussian", name="other")
    assert counted == [60, 60, 60], "of other weights, so encoded again"
    assert other.latents == first.latents


def test_latents_of_former_weights_are_forgotten(trained: Any) -> None:
    (before,) = (trained.path / "latents").iterdir()
    checkpoint = train(train_settings(trained.path, 6), trained.data, trained.path, resume=True)
    assert checkpoint.epoch > 2
    checkpoint.fit_density("gaussian")
    (after,) = (trained.path / "latents").iterdir()
    assert before.name != after.name


def test_the_log_is_cut_back_to_the_state(data: Path, three_epochs: tuple[Path, Path], tmp_path: Path) -> None:
    whole, one = three_epochs
    out = Path(shutil.copytree(one, tmp_path / "out"))
    line = json.loads((out / "log.jsonl").read_text())
    with open(out / "log.jsonl", "a") as file:  # a kill after the log was written and before the state was
        file.write(json.dumps({**line, "epoch": 2, "train": {"loss": -1.0}}) + "\n" + '{"epoch": 3, "tra')
    assert len(Directory(out).read_log()) == 2, "a half line is no line"
    train(train_settings(out, 3), data, out, resume=True)
    assert_same_run(whole, out)


@pytest.mark.parametrize("n", [2, 3, 10, 60, 1797])
@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.1, 0.5, 0.9])
def test_validation_items_are_no_training_items(n: int, fraction: float) -> None:
    for seed in (0, 1):
        train_rows, val_rows = split(n, fraction, seed)
        assert sorted([*train_rows, *val_rows]) == list(range(n)), "each item is in exactly one of them"
        assert len(train_rows) >= 1
        assert (len(val_rows) > 0) == (fraction > 0)


def test_only_training_items_are_trained_on(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained_on: set[int] = set()
    validated_on: list[int] = []
    usual = Loop.tensor

    def watching(self: Loop, rows: np.ndarray) -> Any:
        (trained_on.update if self.model.training else validated_on.extend)(rows.tolist())
        return usual(self, rows)

    monkeypatch.setattr(Loop, "tensor", watching)
    checkpoint = train(raectl.Config(**SMALL, epochs=4), data, tmp_path / "out")
    expected_train, expected_val = split(60, 0.1, 0)
    assert trained_on == set(expected_train.tolist())
    assert set(validated_on) == set(expected_val.tolist()) and len(validated_on) >= 4 * len(expected_val)
    fit = checkpoint.fit_density("gaussian")
    assert (fit.n_train, fit.n_held_out) == (54, 6), "a density is judged on the items that training has not seen"


def test_an_epoch_visits_each_item_once(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    visited: list[int] = []
    usual = Loop.step

    def watching(self: Loop, rows: np.ndarray) -> None:
        visited.extend(rows.tolist())
        usual(self, rows)

    monkeypatch.setattr(Loop, "step", watching)
    config = raectl.Config(**{**SMALL, "batch_size": 9}, epochs=2)
    train(config, data, tmp_path / "out")
    first, second = visited[:54], visited[54:]
    assert sorted(first) == sorted(second) == split(60, 0.1, 0)[0].tolist()
    assert first != second, "in another order"


def test_without_a_validation_share_the_training_loss_decides(data: Path, tmp_path: Path) -> None:
    checkpoint = train(raectl.Config(**SMALL, epochs=2, val_fraction=0.0), data, tmp_path / "out")
    log = checkpoint.directory.read_log()
    assert [line["validation"] for line in log] == [None, None]
    assert checkpoint.epoch == min(log, key=lambda line: line["train"]["loss"])["epoch"]
    assert checkpoint.fit_density("gaussian").held_out is None


def test_every_term_is_in_the_log_and_adds_up(data: Path, tmp_path: Path) -> None:
    config = raectl.Config(**SMALL, epochs=1, beta=0.5, reg={"tikhonov": 0.25, "gradient-penalty": 0.125})
    (line,) = train(config, data, tmp_path / "out").directory.read_log()
    for terms in (line["train"], line["validation"]):
        assert {"loss", "reconstruction", "latent", "tikhonov", "gradient-penalty"} == set(terms)
        total = (
            terms["reconstruction"]
            + 0.5 * terms["latent"]
            + 0.25 * terms["tikhonov"]
            + 0.125 * terms["gradient-penalty"]
        )
        assert terms["loss"] == pytest.approx(total, rel=1e-4)
    assert line["train"]["gradient-penalty"] > 0


# -- the best and the last -------------------------------------------------------------------------------------------


def test_the_best_weights_stay_what_they_were(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training goes on in place; the weights kept for use must not go with it."""
    usual = Loop.validate
    monkeypatch.setattr(Loop, "validate", lambda self: {**usual(self), "loss": float(self.position.epoch)})
    config = raectl.Config(**SMALL, epochs=1)
    first = train(config, data, tmp_path / "one")
    later = train(config.replace(epochs=3), data, tmp_path / "three")
    assert first.epoch == later.epoch == 1
    one, three = (read_arrays(path / "model.safetensors", Any)[0] for path in (tmp_path / "one", tmp_path / "three"))
    assert [name for name in one if not np.array_equal(one[name], three[name])] == []
    state = read_arrays(tmp_path / "three" / "training.safetensors", Any)[0]
    assert all(not np.array_equal(state[f"last.{n}"], state[f"best.{n}"]) for n in one if one[n].ndim > 1)


# -- divergence ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run(
    cli: Cli, trained: Any, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    whole = Path(shutil.copytree(trained.path, trained.path.parent / "whole"))
    cli("train", "--resume", "--out", whole, "--epochs", 5)
    usual = Loop.terms

    def diverging(self: Loop, rows: np.ndarray, generator: Any) -> Any:
        terms = usual(self, rows, generator)
        return terms * value if self.position.epoch == 3 else terms

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "terms", diverging)
        result = cli.run("train", "--resume", "--out", trained.path, "--epochs", 5)
    assert_clear_error(result, 1, "no longer finite at epoch 4", str(trained.path), "lower --lr")
    checkpoint = raectl.load(trained.path, "cpu")
    assert bool(checkpoint.decode(torch.zeros(1, 4)).isfinite().all())
    assert len(checkpoint.directory.read_log()) == 3
    cli("train", "--resume", "--out", trained.path)
    assert_same_run(whole, trained.path)


def test_without_validation_weights_that_are_not_finite_are_not_saved(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = Loop.step

    def spoiling(self: Loop, rows: np.ndarray) -> None:
        usual(self, rows)  # the loss was finite; the step that it led to was not
        if self.position.epoch == 1 and self.position.batch == self.batches:
            next(self.model.decoder.parameters()).data.fill_(float("nan"))

    config = raectl.Config(**SMALL, epochs=3, val_fraction=0.0, precision="fp32")
    train(config.replace(epochs=1), data, tmp_path / "one")
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "step", spoiling)
        with pytest.raises(RaectlError, match="weights are no longer finite at epoch 2"):
            train(config, data, tmp_path / "out")
    checkpoint = raectl.load(tmp_path / "out", "cpu")
    assert checkpoint.epoch == 1 and len(checkpoint.directory.read_log()) == 1
    assert bool(checkpoint.decode(torch.zeros(1, 4)).isfinite().all())
    for name in ("training.safetensors", "model.safetensors"):
        ours, theirs = (read_arrays(tmp_path / run / name, Any)[0] for run in ("out", "one"))
        assert all(np.array_equal(ours[key], theirs[key]) for key in theirs)
    train(config, data, tmp_path / "out", resume=True)
    train(config, data, tmp_path / "whole")
    assert_same_run(tmp_path / "whole", tmp_path / "out")


def test_a_rate_far_too_high_diverges_clearly(cli: Cli, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = (
        "--image-size",
        12,
        "--width",
        2,
        "--batch-size",
        16,
        "--epochs",
        6,
        "--precision",
        "fp32",
        "--beta",
        1e6,
    )
    result = cli.run("train", "--data", data, "--out", out, *options, "--lr", 10, "--model", "vae")
    if result.code:  # whether it does is up to the machine; that the state is good is not
        assert_clear_error(result, 1, "finite", "--lr")
    assert bool(raectl.load(out, "cpu").decode(torch.zeros(1, 64)).isfinite().all())
    for line in Directory(out).read_log():
        assert np.isfinite([*line["train"].values(), *line["validation"].values()]).all()


# -- replacing and refusing ------------------------------------------------------------------------------------------


def test_overwriting_puts_a_new_run_in_the_place_of_the_old(cli: Cli, trained: Any) -> None:
    options = ("--image-size", 12, "--width", 2, "--latent-dim", 3, "--batch-size", 16, "--epochs", 1)
    cli("train", "--data", trained.data, "--out", trained.path, "--overwrite", *options)
    checkpoint = raectl.load(trained.path, "cpu")
    assert checkpoint.latent_dim == 3
    assert checkpoint.densities() == ()
    assert len(checkpoint.directory.read_log()) == 1
    no_leftovers(trained.path.parent)


def test_the_api_refuses_as_the_command_does(trained: Any, tmp_path: Path) -> None:
    config = raectl.Config(**SMALL, epochs=1)
    with pytest.raises(UsageError, match="exists"):
        train(config, trained.data, trained.path)
    with pytest.raises(UsageError, match="exclude each other"):
        train(config, trained.data, trained.path, resume=True, overwrite=True)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RaectlError, match="cannot write"):
        train(config, trained.data, tmp_path / "file" / "b")
    train(config, trained.data, tmp_path / "a" / "b")  # its parents are made
    assert (tmp_path / "a" / "b" / "config.json").is_file()


def test_resuming_from_python_checks_the_configuration(data: Path, three_epochs: tuple[Path, Path], tmp_path: Path):
    whole, one = three_epochs
    out = Path(shutil.copytree(one, tmp_path / "out"))
    config = raectl.Config(**SMALL, reg="tikhonov", epochs=3, precision="fp32")
    before = tree(out)
    for name, value in {"width": 3, "latent_dim": 5, "lr": 0.01, "seed": 4, "model": "vae", "beta": 0.5}.items():
        with pytest.raises(UsageError, match=f"{as_typed(name)} differs"):
            train(config.replace(**{name: value}), data, out, resume=True)
        assert tree(out) == before
    for reg in ("spectral-norm", "tikhonov=0.5", ["tikhonov", "gradient-penalty"]):
        with pytest.raises(UsageError, match="--reg differs"):
            train(config.replace(reg=reg), data, out, resume=True)
    with pytest.raises(RaectlError, match="no such directory"):
        train(config, data, tmp_path / "nothing", resume=True)
    checkpoint = train(config, data, out, resume=True)
    assert checkpoint.config.epochs == 3
    assert_same_run(whole, out)


def test_a_directory_that_vanishes_is_noticed(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = Loop.step

    def vanishing(self: Loop, rows: np.ndarray) -> None:
        usual(self, rows)
        if self.position.step == 4:
            shutil.rmtree(tmp_path / "out")

    monkeypatch.setattr(Loop, "step", vanishing)
    with pytest.raises(RaectlError, match=r"vanished|cannot write"):
        train(raectl.Config(**SMALL, epochs=3), data, tmp_path / "out")
    assert tree(tmp_path) == {}


def test_arrays_in_memory_train_too_and_are_kept_as_long_as_the_process(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (40, 12, 12, 1), dtype=np.uint8)
    checkpoint = train(raectl.Config(**SMALL, epochs=1), x, tmp_path / "out")
    assert checkpoint.fit_density("gaussian").n_train == 36
    opened = raectl.load(tmp_path / "out", "cpu")
    with pytest.raises(RaectlError, match=r"array in memory, which is not kept.*source="):
        opened.fit_density("gaussian")
    assert opened.fit_density("gaussian", x).n_train == 36


def test_an_array_that_was_written_to_is_not_taken_for_the_training_data(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (40, 12, 12, 1), dtype=np.uint8)
    before = x.copy()
    checkpoint = train(raectl.Config(**SMALL, epochs=1), x, tmp_path / "out")
    x[:] = 0
    with pytest.raises(RaectlError, match="array in memory, which is not kept"):
        checkpoint.fit_density("gaussian")
    assert checkpoint.fit_density("gaussian", before).n_train == 36


def test_items_come_out_as_they_went_in(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (40, 12, 12), dtype=np.uint8)
    checkpoint = train(raectl.Config(**SMALL, epochs=1), x, tmp_path / "out")
    for items in (x, x[..., None]):
        again = checkpoint.reconstruct(items)
        assert again.shape == items.shape and again.dtype == np.uint8
        assert np.abs(again.astype(int) - items).mean() < 128, "differences are of items, broadcast to nothing"
    checkpoint.fit_density("gaussian")
    assert checkpoint.sample(3).shape == (3, 12, 12, 1) and checkpoint.sample(3).dtype == np.uint8
    assert checkpoint.decode(checkpoint.encode(x)).shape == (40, 1, 12, 12)


@pytest.mark.parametrize("model", registry.names("model"))
def test_every_model_goes_the_whole_way(data: Path, tmp_path: Path, model: str) -> None:
    checkpoint = train(raectl.Config(**SMALL, model=model, epochs=1), data, tmp_path / "out")
    items = open_dataset(data, checkpoint.data.options).items
    assert checkpoint.encode(items).shape == (60, 4)
    assert checkpoint.reconstruct(items[:3]).shape == items[:3].shape
    x_hat = checkpoint.decode(checkpoint.encode(items[:3]))
    assert x_hat.shape == (3, 3, 12, 12)
    assert 0 <= x_hat.min() <= x_hat.max() <= 1
    checkpoint.fit_density("gmm", components=2)
    assert checkpoint.sample(5).shape == (5, 12, 12, 3)
    assert checkpoint.log_prob(items).shape == (60,)


def test_the_decoder_is_to_be_had(trained: Any) -> None:
    checkpoint = raectl.load(trained.path, "cpu")
    z = torch.randn(3, checkpoint.latent_dim)
    assert isinstance(checkpoint.decoder, torch.nn.Module) and not checkpoint.decoder.training
    with torch.no_grad():
        torch.testing.assert_close(checkpoint.decoder(z).reshape(3, -1), checkpoint.decode(z).reshape(3, -1))


@pytest.mark.parametrize("names", [np.array(3, np.uint64), np.zeros((60, 2), np.uint64)])
def test_digests_of_items_of_another_shape_are_left_aside(trained: Any, names: np.ndarray) -> None:
    path = trained.path / "items.safetensors"
    write_arrays(path, {**read_arrays(path, Any)[0], "names": names})
    checkpoint = raectl.load(trained.path, "cpu")
    assert checkpoint.seen(checkpoint.open_data().items) is None
