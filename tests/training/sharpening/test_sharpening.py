"""`raectl sharpen` and `train --sharpen`: what they leave, resuming to the same bits, and every kind of model."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.checkpoints import KilledError
from support.cli import Cli, assert_clear_error, assert_interrupted, no_leftovers, tree

import raectl
from raectl.checkpoint.directory import Directory
from raectl.storage.arrays import read_arrays
from raectl.training.sharpening import run as runs
from raectl.training.sharpening.guards import Look
from raectl.training.sharpening.loop import SharpeningLoop

STEPS = 40  # of the fixture `sharpened` too
SMALL = ("--image-size", "12", "--width", "2", "--latent-dim", "4", "--batch-size", "16", "--device", "cpu",
         "--precision", "fp32")  # fmt: skip
OF_SHARPENING = ("sharpening.safetensors", "decoder-sharp.safetensors")


def sharpen(cli: Cli, path: Path, *more: object) -> Any:
    return cli("sharpen", path, "--steps", STEPS, "--device", "cpu", *more)


def others(path: Path) -> dict[str, bytes]:
    """What sharpening must leave as it is."""
    changed = (*OF_SHARPENING, "log.jsonl")
    return {name: data for name, data in tree(path).items() if name not in changed and not name.startswith("samples/")}


def assert_same_sharpening(a: Path, b: Path) -> None:
    for name in OF_SHARPENING:
        ours, theirs = read_arrays(a / name, Any), read_arrays(b / name, Any)
        assert ours[1] == theirs[1], name
        odd = [key for key in ours[0] if ours[0][key].tobytes() != theirs[0][key].tobytes()]
        assert not odd and len(ours[0]) == len(theirs[0]), (name, odd[:5])
    assert [json.dumps(r) for r in Directory(a).read_sharpening_log()] == [
        json.dumps(r) for r in Directory(b).read_sharpening_log()
    ]


# -- what it leaves --------------------------------------------------------------------------------------------------


def test_latents_densities_and_the_plain_decoder_stay(cli: Cli, trained: Any, tmp_path: Path) -> None:
    latents = {}
    for density in ("gmm-2", "gaussian"):
        cli("sample", trained.path, "-n", 8, "-o", tmp_path / f"{density}.npy", "--latents", "--density", density)
        latents[density] = (tmp_path / f"{density}.npy").read_bytes()
    cli("sample", trained.path, "-n", 8, "-o", tmp_path / "before.npz")
    before = others(trained.path)
    sharpen(cli, trained.path)
    assert others(trained.path) == before
    for density, bytes_before in latents.items():
        cli("sample", trained.path, "-n", 8, "-o", tmp_path / "again.npy", "--latents", "--density", density)
        assert (tmp_path / "again.npy").read_bytes() == bytes_before
    for decoder, is_same in (("plain", True), ("sharp", False)):
        cli("sample", trained.path, "-n", 8, "-o", tmp_path / "after.npz", "--decoder", decoder)
        assert ((tmp_path / "after.npz").read_bytes() == (tmp_path / "before.npz").read_bytes()) is is_same
    cli("sample", trained.path, "-n", 8, "-o", tmp_path / "default.npz")
    assert (tmp_path / "default.npz").read_bytes() == (tmp_path / "after.npz").read_bytes(), "sharp is the default"


def test_what_is_said_logged_and_drawn(cli: Cli, trained: Any) -> None:
    epochs = Directory(trained.path).read_log()
    result = sharpen(cli, trained.path, "--json")
    assert result.json["decoder"] == "sharp"
    assert result.json["steps"] == result.json["step"] == STEPS
    assert set(result.json["held_out"]) == {"error", "sharpness", "copied", "copied_se", "plain_error"}
    directory = Directory(trained.path)
    log = directory.read_sharpening_log()
    assert [line["step"] for line in log] == [25, 40]
    assert all(set(line["train"]) == {"critic", "gap", "squared_gradient", "error"} for line in log)
    assert log[-1]["held_out"]["error"] == pytest.approx(result.json["held_out"]["error"])
    assert directory.read_log() == epochs
    assert (trained.path / "samples" / "sharpening-000040.png").exists()
    shown = cli("info", trained.path)
    assert "sharp" in shown.out
    assert "stay valid" in shown.out + shown.err
    assert cli("info", trained.path, "--json").json["sharpened"]["steps"] == STEPS


def test_it_works_without_a_fitted_density(cli: Cli, trained: Any, tmp_path: Path) -> None:
    shutil.rmtree(trained.path / "densities")
    sharpen(cli, trained.path)
    cli("reconstruct", trained.path, "--data", trained.data, "-o", tmp_path / "pairs.png")
    cli("fit-density", trained.path, "--components", 2)
    cli("sample", trained.path, "-n", 4, "-o", tmp_path / "samples.png")


def test_the_default_number_of_steps_is_a_quarter_of_the_trainings(trained: Any) -> None:
    checkpoint = raectl.load(trained.path, "cpu")
    assert runs.resolve_options(checkpoint).steps == 300, "at least"
    line = json.dumps({"train": {"loss": 1.0}, "validation": None, "seconds": 1.0, "epoch": 1000})
    (trained.path / "log.jsonl").write_text(line + "\n")
    checkpoint.config = checkpoint.config.replace(epochs=1000)
    assert runs.resolve_options(checkpoint).steps == 1000 * 4 // 4, "not of the best epoch, which is 1 or 2"


def test_from_python(trained: Any) -> None:
    checkpoint = raectl.sharpen(trained.path, steps=5, device="cpu")
    assert checkpoint.decoder_name == "sharp"
    assert checkpoint.sharpened is not None
    assert checkpoint.sharpened.step == 5
    plain = raectl.load(trained.path, "cpu", "plain")
    z = np.zeros((2, 4), np.float32)
    assert not np.array_equal(plain.decode(z), checkpoint.decode(z))
    assert np.array_equal(plain.decode(z), checkpoint.decode(z, "plain"))


# -- faithfulness is the plain decoder's ------------------------------------------------------------------------------


def test_scores_of_faithfulness_are_the_plain_decoders(cli: Cli, trained: Any, tmp_path: Path) -> None:
    before = cli("reconstruct", trained.path, "--data", trained.data, "-o", tmp_path / "a.png", "--json").json
    sharpen(cli, trained.path, "--weight", 5)
    after = cli("reconstruct", trained.path, "--data", trained.data, "-o", tmp_path / "b.png", "--json").json
    for metric in ("mse", "psnr", "ssim"):
        assert after[metric] == before[metric]
    assert after["written_by"] == "sharp"
    assert after["sharp"]["mse"] != before["mse"]
    lines = Directory(trained.path).read_metrics()
    assert [line["decoder"] for line in lines if line["metric"] == "mse" and line["of"] == "reconstruction"] == [
        "plain",
        "plain",
        "sharp",
    ]
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()


# -- twice, resumed, stale --------------------------------------------------------------------------------------------


def test_sharpening_twice_is_refused_and_anew_begins_with_the_plain_decoder(cli: Cli, trained: Any) -> None:
    sharpen(cli, trained.path)
    first = {name: (trained.path / name).read_bytes() for name in OF_SHARPENING}
    before = tree(trained.path)
    result = cli.run("sharpen", trained.path, "--steps", STEPS)
    assert_clear_error(result, 2, "is sharpened already", "--overwrite")
    assert tree(trained.path) == before
    sharpen(cli, trained.path, "--overwrite")
    assert {name: (trained.path / name).read_bytes() for name in OF_SHARPENING} == first
    sharpen(cli, trained.path, "--overwrite", "--seed", 5)
    assert {name: (trained.path / name).read_bytes() for name in OF_SHARPENING} != first
    assert cli("sharpen", trained.path, "--resume", "--json").json["step"] == STEPS, "there is nothing left to do"


def test_nothing_to_resume_is_said(cli: Cli, trained: Any) -> None:
    assert_clear_error(cli.run("sharpen", trained.path, "--resume"), 2, "no sharpening", "hint: raectl sharpen")


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int, *, killed: bool) -> None:
    """End the process after a step of the second phase: by a signal, upon which it saves, or at once."""
    usual = SharpeningLoop.step

    def stopping(self: SharpeningLoop) -> None:
        usual(self)
        if self.position.step == step:
            if killed:
                raise KilledError
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(SharpeningLoop, "step", stopping)


@pytest.mark.parametrize("killed", [False, True], ids=["terminated", "killed"])
@pytest.mark.parametrize("step", [1, 9, 10, 11, 24, 25, 26, 39])
def test_a_stopped_sharpening_goes_on_to_the_same_bits(
    cli: Cli, trained: Any, sharpened: Path, monkeypatch: pytest.MonkeyPatch, step: int, killed: bool
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, step, killed=killed)
        if killed:
            with pytest.raises(KilledError):
                raectl.sharpen(trained.path, steps=STEPS, device="cpu")
        else:
            result = cli.run("sharpen", trained.path, "--steps", STEPS, "--device", "cpu")
            assert_interrupted(result, 143, f"step {step} of {STEPS}", "--resume")
    assert not (trained.path / "decoder-sharp.safetensors").exists()
    plain = cli("sample", trained.path, "-n", 2, "-o", trained.path.parent / "x.npz", "--json").json
    assert plain["decoder"] == "plain", "an unfinished one makes no items"
    assert_clear_error(cli.run("sharpen", trained.path), 2, "is being sharpened", "--resume", "--overwrite")
    cli("sharpen", trained.path, "--resume", "--device", "cpu")
    assert_same_sharpening(trained.path, sharpened)
    no_leftovers(trained.path)


def test_a_kill_between_the_two_files_leaves_the_plain_decoder_whole(
    cli: Cli, trained: Any, sharpened: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def killed(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(runs.sharpened, "write", killed)
        with pytest.raises(KilledError):
            raectl.sharpen(trained.path, steps=STEPS, device="cpu")
    assert cli("sample", trained.path, "-n", 2, "-o", tmp_path / "x.npz", "--json").json["decoder"] == "plain"
    assert_clear_error(cli.run("sharpen", trained.path), 2, f"step {STEPS} of {STEPS}", "--resume")
    cli("sharpen", trained.path, "--resume")
    assert_same_sharpening(trained.path, sharpened)


@pytest.mark.parametrize(
    "option", [("--steps", 41), ("--weight", 0.25), ("--seed", 3)], ids=["steps", "weight", "seed"]
)
def test_a_resumed_sharpening_keeps_its_options(
    cli: Cli, trained: Any, monkeypatch: pytest.MonkeyPatch, option: tuple[str, object]
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 12, killed=False)
        cli.run("sharpen", trained.path, "--steps", STEPS)
    assert_clear_error(cli.run("sharpen", trained.path, "--resume", *option), 2, option[0], "--overwrite")
    cli("sharpen", trained.path, "--resume", "--steps", STEPS, "--weight", 0.5, "--seed", 0)


def test_more_training_leaves_the_sharpened_decoder_behind(cli: Cli, trained: Any, tmp_path: Path) -> None:
    sharpen(cli, trained.path)
    cli("train", "--resume", "--out", trained.path, "--epochs", 4)
    result = cli.run("sample", trained.path, "-n", 2, "-o", tmp_path / "x.npz", "--decoder", "sharp")
    assert_clear_error(result, 2, "no sharpened decoder of these weights", "hint: raectl sharpen")
    cli("reconstruct", trained.path, "--data", trained.data, "-o", tmp_path / "y.npz")
    assert "left aside" in cli("info", trained.path).out
    sharpen(cli, trained.path)
    assert cli("info", trained.path, "--json").json["sharpened"]["steps"] == STEPS


# -- train --sharpen --------------------------------------------------------------------------------------------------


def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "LEAST_STEPS", STEPS)


def test_both_phases_in_one_command(cli: Cli, original: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few_steps(monkeypatch)
    options = ("train", "--data", original.data, *SMALL, "--epochs", 2, "--sharpen")
    cli(*options, "--out", tmp_path / "both")
    cli(*options[:-1], "--out", tmp_path / "two")
    sharpen(cli, tmp_path / "two")
    assert_same_sharpening(tmp_path / "both", tmp_path / "two")
    stop_after(monkeypatch, 30, killed=False)
    result = cli.run(*options, "--out", tmp_path / "stopped")
    assert_interrupted(result, 143, "step 30", f"raectl train --resume --out {tmp_path / 'stopped'}")
    monkeypatch.undo()
    few_steps(monkeypatch)
    cli("train", "--resume", "--out", tmp_path / "stopped")
    assert_same_sharpening(tmp_path / "stopped", tmp_path / "both")
    assert (tmp_path / "stopped" / "log.jsonl").read_text().count("epoch") == (
        (tmp_path / "both" / "log.jsonl").read_text().count("epoch")
    )


def test_a_run_that_is_resumed_with_sharpen_remembers_it(
    cli: Cli, original: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_steps(monkeypatch)
    path = tmp_path / "ckpt"
    cli("train", "--data", original.data, *SMALL, "--epochs", 1, "--out", path)
    with monkeypatch.context() as patch:
        stop_after(patch, 12, killed=False)
        result = cli.run("train", "--resume", "--sharpen", "--out", path)
        assert_interrupted(result, 143, "step 12", f"raectl train --resume --out {path}")
    assert "being sharpened, step 12" in cli("info", path).out
    assert cli("train", "--resume", "--out", path, "--json").json["sharpened"]["steps"] == STEPS
    first = (path / "decoder-sharp.safetensors").read_bytes()
    cli("train", "--resume", "--out", path)
    assert (path / "decoder-sharp.safetensors").read_bytes() == first
    cli("train", "--resume", "--out", path, "--epochs", 2)
    assert (path / "decoder-sharp.safetensors").read_bytes() != first
    assert raectl.load(path, "cpu").decoder_name == "sharp"


def test_more_epochs_are_sharpened_anew(
    cli: Cli, original: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_steps(monkeypatch)
    cli("train", "--data", original.data, *SMALL, "--epochs", 1, "--sharpen", "--out", tmp_path / "a")
    first = (tmp_path / "a" / "decoder-sharp.safetensors").read_bytes()
    cli("train", "--resume", "--out", tmp_path / "a", "--epochs", 2)
    assert (tmp_path / "a" / "decoder-sharp.safetensors").read_bytes() != first
    assert raectl.load(tmp_path / "a", "cpu").decoder_name == "sharp"
    assert [line["step"] for line in Directory(tmp_path / "a").read_sharpening_log()] == [25, 40]


# -- guards in a run --------------------------------------------------------------------------------------------------


def looks(monkeypatch: pytest.MonkeyPatch, *errors: float) -> None:
    """Let the held-out errors be these: of the plain decoder, then of each look."""
    given = iter(errors)
    monkeypatch.setattr("raectl.training.sharpening.guards.HeldOut.look", lambda *_: Look(next(given, errors[-1])))


def test_a_guard_ends_the_phase_and_the_average_before_it_is_kept(
    cli: Cli, trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks(monkeypatch, 0.01, 0.01, 0.03, 0.01)
    result = sharpen(cli, trained.path)
    assert "sharpening ends at step 40: the held-out error" in result.err
    checkpoint = raectl.load(trained.path, "cpu")
    assert checkpoint.sharpened is not None
    assert checkpoint.sharpened.step == 25
    assert "more than twice" in str(checkpoint.sharpened.ended)
    assert "ended" in cli("info", trained.path).out


def test_where_no_average_passes_the_plain_decoder_stays(
    cli: Cli, trained: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    looks(monkeypatch, 0.01, 0.05)
    result = sharpen(cli, trained.path)
    assert "no sharpened decoder was kept" in result.err
    assert not (trained.path / "decoder-sharp.safetensors").exists()
    assert raectl.load(trained.path, "cpu").decoder_name == "plain"
