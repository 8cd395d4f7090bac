"""A reconstruction term that changes in its first steps: which weights are kept, the schedule, stopping, resuming."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.checkpoints import KilledError
from support.cli import Cli, assert_clear_error, assert_interrupted, assert_same_run, log_terms, tree, write_pictures

import raectl
from raectl.data import open_dataset
from raectl.model.resolve import resolve
from raectl.storage.arrays import read_arrays
from raectl.training.loop import Loop

SMALL = ("--image-size", "12", "--width", "2", "--latent-dim", "4", "--batch-size", "16", "--device", "cpu",
         "--precision", "fp32", "--reg", "tikhonov")  # fmt: skip
STEPS = 4  # in an epoch, of 54 training items
RAMP = ("--reconstruction", "l1,start=2,length=4")  # over at step 6, in the second epoch


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("ramp") / "images", 60)


def run(cli: Cli, data: Path, out: Path, epochs: int, *more: object) -> Path:
    cli("train", "--data", data, "--out", out, *SMALL, "--epochs", epochs, *more)
    return out


def validating(monkeypatch: pytest.MonkeyPatch, *losses: float) -> None:
    """Let the validation losses of a run's epochs be these."""
    usual = Loop.validate

    def validate(self: Loop) -> dict[str, float]:
        return {**usual(self), "loss": losses[self.position.epoch]}

    monkeypatch.setattr(Loop, "validate", validate)


def position(out: Path) -> dict[str, Any]:
    return read_arrays(out / "training.safetensors", Any)[1]


def weights_are_the_last(out: Path) -> bool:
    arrays, model = (read_arrays(out / name, Any)[0] for name in ("training.safetensors", "model.safetensors"))
    average = {name.removeprefix("average."): array for name, array in arrays.items() if name.startswith("average.")}
    return bool(average) and all(np.array_equal(model[name], array) for name, array in average.items())


# -- stopped and resumed ----------------------------------------------------------------------------------------------


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int, *, killed: bool) -> None:
    """End this process after a step: by a signal, upon which it saves, or at once."""
    usual = Loop.step

    def stepping(self: Loop, rows: np.ndarray) -> None:
        usual(self, rows)
        if self.position.step == step:
            if killed:
                raise KilledError
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Loop, "step", stepping)


@pytest.mark.parametrize("killed", [False, True])
def test_a_run_stopped_anywhere_on_the_ramp_goes_on_bit_for_bit(
    cli: Cli, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    whole = run(cli, data, tmp_path / "whole", 3, *RAMP)
    parts = tmp_path / "parts"
    # Before the ramp, at its first step, at the end of an epoch within it, at its last step, at its end, after it.
    for step in (1, 2, STEPS, 5, 6, 2 * STEPS, 2 * STEPS + 1):
        how = ("--resume",) if parts.exists() else ("--data", data, *SMALL, *RAMP, "--epochs", 3)
        with monkeypatch.context() as patch:
            stop_after(patch, step, killed=killed)
            if killed:
                with pytest.raises(KilledError):
                    cli.run("train", "--out", parts, *how)
            else:
                assert_interrupted(cli.run("train", "--out", parts, *how), 130, "interrupted in epoch")
        assert position(parts)["step"] == ((step - 1) // STEPS * STEPS if killed else step)
        assert raectl.load(parts, "cpu").epoch <= (step - 1) // STEPS
    cli("train", "--resume", "--out", parts)
    assert_same_run(whole, parts)


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_run_that_ended_on_the_ramp_or_after_it_goes_on_to_more_epochs(
    cli: Cli, data: Path, tmp_path: Path, epochs: int
) -> None:
    whole = run(cli, data, tmp_path / "whole", 3, *RAMP)
    parts = run(cli, data, tmp_path / "parts", epochs, *RAMP)
    result = cli("train", "--resume", "--out", parts, "--epochs", 3)
    assert "changes until step" not in result.err
    assert_same_run(whole, parts)


# -- the weights for use, and the learning rate ---------------------------------------------------------------------


def test_epochs_are_compared_from_the_end_of_the_ramp(
    cli: Cli, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses on the ramp are lower than any later one, and rise: no epoch there is the best, no rate is halved."""
    validating(monkeypatch, 1.0, 2.0, 9.0, 8.0, 8.5, 8.6)
    (tmp_path / "patient.toml").write_text("plateau_patience = 2\n")
    more = ("--config", tmp_path / "patient.toml", "--reconstruction", f"l1,start=3,length={2 * STEPS}")
    whole = run(cli, data, tmp_path / "whole", 6, *more)
    assert [line["best"] for line in log_terms(whole)] == [False, False, True, True, False, False]
    assert [line["lr"] for line in log_terms(whole)] == [1e-3] * 6
    state = position(whole)
    assert (state["best_epoch"], state["best_loss"], state["reference"], state["lr"]) == (4, 8.0, 8.0, 5e-4)
    assert raectl.load(whole, "cpu").epoch == 4
    info = cli("info", whole)
    assert "4, validation loss 8" in info.out and "reconstruction l1" in info.out
    assert "| weights for use | epoch 4, validation loss 8.0000 |" in (whole / "README.md").read_text()
    for stop in (1, 2, 3):
        parts = run(cli, data, tmp_path / f"parts{stop}", stop, *more)
        state = position(parts)
        on_ramp = stop < 3
        assert (state["best_epoch"], state["best_loss"]) == (stop, None if on_ramp else 9.0)
        assert (state["reference"], state["stale"]) == (None if on_ramp else 9.0, 0)
        assert weights_are_the_last(parts) and raectl.load(parts, "cpu").epoch == stop
        cli("train", "--resume", "--out", parts, "--epochs", 6)
        assert_same_run(whole, parts)


def test_a_run_that_ends_on_the_ramp_says_so_and_keeps_its_last_weights(
    cli: Cli, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validating(monkeypatch, 1.0, 2.0)
    out = tmp_path / "out"
    result = cli("train", "--data", data, "--out", out, *SMALL, "--epochs", 2, "--reconstruction", "l1")
    (said,) = [line for line in result.err.splitlines() if "--reconstruction" in line]
    assert said.startswith("--reconstruction l1,start=250,length=500 changes until step 750, and the run has 8 steps")
    assert "last epoch's weights" in said and "more --epochs" in said
    assert "last epoch" in result.out and "best epoch" not in result.out
    assert weights_are_the_last(out) and raectl.load(out, "cpu").epoch == 2
    card = (out / "README.md").read_text()
    assert "| reconstruction term | l1,start=250,length=500 |" in card and "epoch 2, the last, not the best" in card
    assert cli("info", out, "--json").json["best"] is None
    assert "none yet" in cli("info", out).out
    cli("fit-density", out, "--density", "gaussian")
    cli("sample", out, "-n", 2, "-o", tmp_path / "two.npz")
    before = tree(out)
    result = cli("train", "--resume", "--out", out)
    assert "has its 2 epochs" in result.err and "--reconstruction" not in result.err, "no step is left"
    assert tree(out) == before


def test_without_held_out_items_a_loss_counts_whose_steps_are_all_after_the_ramp(
    cli: Cli, data: Path, tmp_path: Path
) -> None:
    """The training loss is a mean over the epoch's steps, of which the first may be on the ramp."""
    options = ("--val-fraction", 0, "--reconstruction", f"l1,start=1,length={STEPS}")
    out = run(cli, data, tmp_path / "out", 3, *options)
    assert [line["best"] for line in log_terms(out)][:2] == [False, False]
    assert log_terms(out)[2]["best"] and log_terms(out)[2]["validation"] is None
    held_out = run(cli, data, tmp_path / "held-out", 2, *options[2:])
    assert [line["best"] for line in log_terms(held_out)] == [False, True]


def test_a_constant_term_has_no_ramp(cli: Cli, data: Path, tmp_path: Path) -> None:
    for number, term in enumerate(("l2", "l1,start=0,length=0")):
        result = cli("train", "--data", data, "--out", tmp_path / str(number), *SMALL, "--epochs", 1,
                     "--reconstruction", term)  # fmt: skip
        assert "changes until" not in result.err
        assert log_terms(tmp_path / str(number))[0]["best"]
    default = run(cli, data, tmp_path / "default", 1)
    assert_same_run(default, tmp_path / "0")


def test_the_term_is_that_of_the_step_in_training_and_in_validation(tmp_path: Path) -> None:
    dataset = open_dataset(np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8))
    config = raectl.Config(reconstruction="l1,start=0,length=4", beta=0, width=2, batch_size=18, device="cpu")
    loop = Loop(resolve(config, dataset), dataset, tmp_path)
    x = loop.tensor(loop.val_rows)

    def expected(a: float) -> float:
        with torch.no_grad():
            errors = x - loop.model.eval().decode(loop.model.encode(x))
        return float(((1 - a) * errors.square() + a * errors.abs()).sum() / len(x))

    for step, a in ((0, 0.0), (1, 0.25), (4, 1.0), (9, 1.0)):
        loop.position.step = step
        assert loop.validate()["reconstruction"] == pytest.approx(expected(a), rel=1e-5)
    loop.position.step = 0
    for done, _ in enumerate(loop.epoch(), 1):
        assert loop.position.step == done
    assert done == 2
    assert loop.validate()["reconstruction"] == pytest.approx(expected(0.5), rel=1e-5), "of the steps done so far"


# -- the option -------------------------------------------------------------------------------------------------------


def test_the_resolved_term_is_printed_stored_and_kept(cli: Cli, data: Path, tmp_path: Path) -> None:
    train = ("train", "--data", data, "--out", tmp_path / "out", *SMALL, "--epochs", 1)
    assert cli(*train, "--dry-run").json["config"]["reconstruction"] == {"name": "l2"}
    (tmp_path / "run.toml").write_text('[reconstruction]\nname = "l1"\nstart = 3\n')
    stored = {"name": "l1", "start": 3, "length": 500}
    assert cli(*train, "--dry-run", "--config", tmp_path / "run.toml").json["config"]["reconstruction"] == stored
    cli(*train, "--config", tmp_path / "run.toml")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["config"]["reconstruction"] == stored
    resume = ("train", "--resume", "--out", tmp_path / "out", "--epochs", 2, "--dry-run")
    for again in ((), ("l1",), ("l1,start=3",), ("l1,length=500,start=3",)):
        typed = [part for term in again for part in ("--reconstruction", term)]
        assert cli(*resume, *typed).json["config"]["reconstruction"] == stored
    assert cli(*resume, "--config", tmp_path / "run.toml").json["config"]["reconstruction"] == stored
    for other in ("l2", "l1,start=4", "l1,start=3,length=0"):
        result = cli.run(*resume, "--reconstruction", other)
        assert_clear_error(result, 2, "--reconstruction differs from the l1,start=3,length=500 with which", "--epochs")
    with pytest.raises(raectl.RaectlError, match="--reconstruction differs"):
        raectl.train(raectl.Config(epochs=2, reconstruction="l1,start=4"), resume=True, out=tmp_path / "out")
    checkpoint = raectl.train(raectl.Config(epochs=2, reconstruction="l1"), resume=True, out=tmp_path / "out")
    assert checkpoint.config.reconstruction == stored


def test_a_checkpoint_that_stores_no_term_has_the_default(cli: Cli, original: Any, tmp_path: Path) -> None:
    old = Path(shutil.copytree(original.path, tmp_path / "old"))
    record = json.loads((old / "config.json").read_text())
    del record["config"]["reconstruction"]
    (old / "config.json").write_text(json.dumps(record))
    assert "reconstruction" not in cli("info", old).out
    assert_clear_error(cli.run("train", "--resume", "--out", old, "--epochs", 3, "--reconstruction", "l1"), 2, "the l2")
    cli("train", "--resume", "--out", old, "--epochs", 3, "--reconstruction", "l2")
    new = Path(shutil.copytree(original.path, tmp_path / "new"))
    cli("train", "--resume", "--out", new, "--epochs", 3)
    assert_same_run(old, new)
