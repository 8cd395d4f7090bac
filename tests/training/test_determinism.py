"""The same seed gives the same bytes; a run that is stopped and resumed is the run that was not."""

import json
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.cli import Cli, assert_interrupted, assert_same_run, log_terms, no_leftovers, start, tree, write_pictures

import raectl
from raectl.storage.arrays import read_arrays
from raectl.training.loop import Loop

SMALL = ("--image-size", "12", "--width", "2", "--latent-dim", "4", "--batch-size", "16", "--device", "cpu")
STEPS = 3  # in an epoch: 48 of 54 training items
KINDS = {
    "tikhonov": ("--reg", "tikhonov"),
    "vae": ("--model", "vae"),
    "iwae": ("--model", "iwae"),
    "gradient-penalty": ("--reg", "gradient-penalty,form=exact"),
    "spectral-norm": ("--reg", "spectral-norm,encoder=true"),
    "two": ("--reg", "tikhonov=1e-3", "--reg", "gradient-penalty,form=released"),
}
VARIANTS = [(kind, precision) for kind in KINDS for precision in ("fp32", "bf16")]


@pytest.fixture(autouse=True)
def _bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """bf16 wherever the tests run: exactness does not depend on whether it is fast there."""
    for module in ("device", "training.resuming"):
        monkeypatch.setattr(f"raectl.{module}.has_bf16", lambda device: True)


@pytest.fixture(autouse=True)
def _few_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactness does not depend on how far a spectral norm has settled."""
    monkeypatch.setattr("raectl.model.regularizers.spectral_norm._POWER_ITERATIONS", 10)


def run(
    cli: Cli, data: Path, out: Path, kind: str = "tikhonov", precision: str = "fp32", epochs: int = 4, *more: object
) -> Path:
    options = (*SMALL, *KINDS[kind], "--precision", precision, "--epochs", epochs)
    cli("train", "--data", data, "--out", out, *options, *more)
    return out


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("determinism") / "images", 60)


# -- the same seed ---------------------------------------------------------------------------------------------------


def test_the_seed_and_nothing_else_decides_the_weights(cli: Cli, data: Path, tmp_path: Path) -> None:
    first = run(cli, data, tmp_path / "first", "vae", epochs=1)
    torch.manual_seed(123)  # the state of the process is nothing to a run
    np.random.seed(123)
    before = torch.get_rng_state()
    second = run(cli, data, tmp_path / "second", "vae", epochs=1)
    assert torch.equal(torch.get_rng_state(), before), "a library leaves the global random state alone"
    assert_same_run(first, second)
    other = tmp_path / "other"
    options = (*SMALL, *KINDS["vae"], "--precision", "fp32", "--epochs", 1, "--seed", 1)
    cli("train", "--data", data, "--out", other, *options)
    ours, _ = read_arrays(first / "model.safetensors", Any)
    theirs, _ = read_arrays(other / "model.safetensors", Any)
    kernels = [name for name in ours if ours[name].ndim > 1]
    assert kernels and all(not np.array_equal(ours[name], theirs[name]) for name in kernels)


@pytest.mark.parametrize("suffix", [".png", ".npz", ".npy"])
def test_samples_are_the_same_bytes_for_a_seed(cli: Cli, original: Any, tmp_path: Path, suffix: str) -> None:
    outs = [tmp_path / f"{name}{suffix}" for name in ("a", "b", "c")]
    for out, seed in zip(outs, (7, 7, 8), strict=True):
        cli("sample", original.path, "-n", 20, "-o", out, "--seed", seed)
    a, b, c = (out.read_bytes() for out in outs)
    assert a == b
    assert a != c


def test_fitting_twice_gives_the_same_density(cli: Cli, trained: Any) -> None:
    for name, seed in (("one", 3), ("two", 3)):
        cli("fit-density", trained.path, "--components", 3, "--name", name, "--seed", seed)
    one, two = (trained.path / "densities" / name / "density.safetensors" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


# -- sample i depends on the seed and i alone ------------------------------------------------------------------------


@pytest.mark.parametrize("density", ["gmm-2", "gaussian"])
def test_fewer_samples_are_the_first_of_more(cli: Cli, original: Any, tmp_path: Path, density: str) -> None:
    def images(n: int, batch: int) -> np.ndarray:
        out = tmp_path / f"{n}-{batch}.npz"
        cli("sample", original.path, "-n", n, "-o", out, "--batch-size", batch, "--density", density, "--seed", 5)
        with np.load(out) as arrays:
            return arrays["images"]

    most = images(130, 1024)
    assert len(np.unique(most.reshape(130, -1), axis=0)) > 100, "samples differ from each other"
    for n in (16, 64, 70):
        for batch in (1, 7, 64, 1000):
            few = images(n, batch)
            assert len(few) == n
            assert np.array_equal(few, most[:n]), (n, batch)


def test_fewer_samples_are_the_first_of_more_in_every_form(cli: Cli, original: Any, tmp_path: Path) -> None:
    cli("sample", original.path, "-n", 5, "-o", tmp_path / "few.npy", "--latents")
    cli("sample", original.path, "-n", 70, "-o", tmp_path / "many.npy", "--latents", "--batch-size", 3)
    assert np.array_equal(np.load(tmp_path / "few.npy"), np.load(tmp_path / "many.npy")[:5])
    checkpoint = raectl.load(original.path, "cpu")
    few, many = (torch.cat(list(checkpoint.sample_blocks(n, seed=2))) for n in (5, 70))
    assert torch.equal(few, many[:5]), "values before rounding to bytes"


def test_saved_and_loaded_samples_are_identical(original: Any, tmp_path: Path) -> None:
    first = raectl.load(original.path, "cpu")
    moved = shutil.copytree(original.path, tmp_path / "elsewhere")
    second = raectl.load(moved, "cpu")
    assert np.array_equal(first.sample(70, seed=1), second.sample(70, seed=1))
    x = np.random.default_rng(0).integers(0, 256, (70, 16, 16, 3), dtype=np.uint8)
    assert torch.equal(first.encode(x), second.encode(x))
    assert torch.equal(first.encode(x)[:3], second.encode(x[:3])), "an item's code does not depend on its company"
    assert torch.equal(first.log_prob(x), second.log_prob(x))


# -- stopped and resumed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "precision"), VARIANTS)
def test_two_epochs_resumed_to_four_are_four(cli: Cli, data: Path, tmp_path: Path, kind: str, precision: str) -> None:
    whole = run(cli, data, tmp_path / "whole", kind, precision, epochs=4)
    parts = run(cli, data, tmp_path / "parts", kind, precision, epochs=2)
    cli("train", "--resume", "--out", parts, "--epochs", 4)
    assert_same_run(whole, parts)
    config = json.loads((parts / "config.json").read_text())["config"]
    assert (config["epochs"], config["precision"]) == (4, precision)


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int, signum: int) -> None:
    """Let a signal come to this process once `step` steps of the run are done."""
    usual = Loop.step

    def stepping(self: Loop, rows: np.ndarray) -> None:
        usual(self, rows)
        if self.position.step == step:
            signal.raise_signal(signum)

    monkeypatch.setattr(Loop, "step", stepping)


@pytest.mark.parametrize(("kind", "precision"), VARIANTS)
def test_a_run_stopped_within_an_epoch_goes_on_bit_for_bit(
    cli: Cli, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, precision: str
) -> None:
    whole = run(cli, data, tmp_path / "whole", kind, precision, epochs=3)
    parts = tmp_path / "parts"
    options = (*SMALL, *KINDS[kind], "--precision", precision, "--epochs", 3)
    # The first step of all, the last of an epoch, the first and the middle of one, and the last of all.
    steps = (1, STEPS, STEPS + 1, 2 * STEPS + 2, 3 * STEPS)
    for step in steps:
        with monkeypatch.context() as patch:
            stop_after(patch, step, signal.SIGINT)
            how = ("--resume",) if parts.exists() else ("--data", data, *options)
            result = cli.run("train", "--out", parts, *how)
        assert_interrupted(result, 130, "interrupted in epoch", "saved", f"raectl train --resume --out {parts}")
        _, metadata = read_arrays(parts / "training.safetensors", Any)
        assert metadata["step"] == step
        assert raectl.load(parts, "cpu").epoch <= (step - 1) // STEPS
        no_leftovers(tmp_path)
    cli("train", "--resume", "--out", parts)
    assert_same_run(whole, parts)


def test_the_schedule_and_the_best_weights_survive_a_stop(
    cli: Cli, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose best epoch is its second, and whose rate is halved twice."""
    losses = (5.0, 4.0, 4.5, 4.2, 4.1)
    usual = Loop.validate

    def validate(self: Loop) -> dict[str, float]:
        return {**usual(self), "loss": losses[self.position.epoch]}

    monkeypatch.setattr(Loop, "validate", validate)
    (tmp_path / "patient.toml").write_text("plateau_patience = 2\n")
    patient = ("tikhonov", "fp32", 5, "--config", tmp_path / "patient.toml")
    whole = run(cli, data, tmp_path / "whole", *patient)
    for stop in (2, 4):
        parts = run(cli, data, tmp_path / f"parts{stop}", *patient[:2], stop, *patient[3:])
        cli("train", "--resume", "--out", parts, "--epochs", 5)
        assert_same_run(whole, parts)
    assert [line["lr"] for line in log_terms(whole)] == [1e-3, 1e-3, 1e-3, 1e-3, 5e-4]
    assert [line["best"] for line in log_terms(whole)] == [True, True, False, False, False]
    assert raectl.load(whole, "cpu").epoch == 2
    arrays, _ = read_arrays(whole / "training.safetensors", Any)
    model, _ = read_arrays(whole / "model.safetensors", Any)
    assert all(np.array_equal(model[name], arrays[f"best.{name}"]) for name in model)
    assert any(not np.array_equal(model[name], arrays[f"last.{name}"]) for name in model)
    two = run(cli, data, tmp_path / "two", *patient[:2], 2, *patient[3:])
    assert (two / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_resuming_a_finished_run_changes_nothing_and_says_so(cli: Cli, data: Path, tmp_path: Path) -> None:
    out = run(cli, data, tmp_path / "out", epochs=2)
    before = tree(out)
    for arguments in (("--resume",), ("--resume", "--epochs", 2)):
        result = cli("train", "--out", out, *arguments)
        assert f"{out} has its 2 epochs" in result.err
        assert tree(out) == before


# -- real processes and real signals ---------------------------------------------------------------------------------

LONG = ("--image-size", "16", "--width", "2", "--latent-dim", "4", "--batch-size", "8", "--device", "cpu", "--reg",
        "tikhonov", "--precision", "fp32", "--epochs", "12")  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    config = raectl.Config(
        image_size=16, width=2, latent_dim=4, batch_size=8, device="cpu", reg="tikhonov", precision="fp32", epochs=12
    )
    return raectl.train(config, data, tmp_path_factory.mktemp("uninterrupted") / "whole").directory.path


SLOWLY = """
import time
from raectl.cli.main import main
from raectl.training.loop import Loop
from raectl.training.run import Run

usual = Loop.step

def step(self, rows):
    time.sleep(0.05)  # or a busy machine would see the end of the run before it sends a signal
    usual(self, rows)

Loop.step = step
main()
"""


def start_slowly(*arguments: object) -> subprocess.Popen[str]:
    """The program as a process of its own, whose run takes seconds."""
    command = [sys.executable, "-c", SLOWLY, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_epoch(log: Path, epoch: int, process: Any) -> None:
    while not (log.exists() and log.read_text().count("\n") >= epoch):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_says_how_to_go_on(
    cli: Cli, data: Path, uninterrupted: Path, tmp_path: Path, signum: int, code: int
) -> None:
    out = tmp_path / "a run"  # the command in the hint must be one that a shell understands
    process = start_slowly("train", "--data", data, "--out", out, *LONG)
    wait_for_epoch(out / "log.jsonl", 2, process)
    process.send_signal(signum)
    stdout, stderr = process.communicate()
    assert process.returncode == code, stderr
    assert stdout == ""
    assert "Traceback" not in stderr
    assert "error: " not in stderr
    (said,) = [line for line in stderr.splitlines() if line.startswith("interrupted")]
    (hint,) = [line for line in stderr.splitlines() if line.startswith("hint: ")]
    assert said.endswith("; saved")
    assert len(log_terms(out)) < 12, "it was stopped before its end"
    program, *arguments = shlex.split(hint.removeprefix("hint: "))
    assert program == "raectl"
    cli(*arguments)
    assert_same_run(uninterrupted, out)


def test_a_run_killed_at_any_moment_goes_on(cli: Cli, data: Path, uninterrupted: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    rng = random.Random(0)
    for attempt in range(2):
        how = ("--resume",) if attempt else ("--data", data, *LONG)
        process = start_slowly("train", "--out", out, *how)
        wait_for_epoch(out / "log.jsonl", 4 * attempt + 1, process)
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it was still running"
        raectl.load(out, "cpu")  # whole, whenever that was
    cli("train", "--resume", "--out", out)
    assert_same_run(uninterrupted, out)
    no_leftovers(out)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not list what is caught")
def test_a_signal_before_anything_is_saved_leaves_nothing(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "early"
    process = start("train", "--data", data, "--out", out, *LONG)
    while not catches(process.pid, signal.SIGTERM):
        time.sleep(0.005)
    process.terminate()  # torch is still being imported
    _, stderr = process.communicate()
    assert process.returncode == 143, stderr
    assert "Traceback" not in stderr
    assert "terminated; nothing is left half-written" in stderr
    no_leftovers(tmp_path)


def catches(pid: int, signum: int) -> bool:
    """Whether a process has a handler for a signal (Linux)."""
    caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return bool(caught and int(caught[1], 16) >> (signum - 1) & 1)
