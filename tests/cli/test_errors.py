"""Every mistake that a user can make: one clear line, one useful hint, the right exit code, nothing left behind."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.cli import ESCAPE, Cli, World, assert_clear_error, assert_mistake, plain_words, tree

import raectl
from raectl import registry

TRAIN = "train --image-size 12 --width 2 --latent-dim 4 --batch-size 16 --epochs 1"


#   arguments after `raectl`, with {w} for the world and {n} for a path that is not there; the exit code; what is said
CASES: list[tuple[str, int, list[str]]] = [
    # -- fit-density
    ("fit-density {w}/ckpt --components 1000", 1, ["1,000 components are more than the 54 latents", "54 or fewer"]),
    ("fit-density {w}/ckpt --components 0", 2, ["--components '0'", "hint: --components 10"]),
    ("fit-density {w}/ckpt --components x", 2, ["--components 'x'", "auto"]),
    ("fit-density {w}/ckpt --components 2.5", 2, ["--components '2.5'"]),
    ("fit-density {w}/ckpt --components -3", 2, ["--components '-3'"]),
    ("fit-density {w}/ckpt --density kde2", 2, ["unknown density 'kde2'", *registry.names("density")]),
    ("fit-density {w}/ckpt --density gaussian --components 3", 2, ["gaussian", "components"]),
    ("fit-density {w}/ckpt --density standard-normal --components auto", 2, ["standard-normal", "components"]),
    ("fit-density {w}/ckpt --covariance round", 2, ["round", "full, tied, diag, spherical"]),
    ("fit-density {w}/ckpt --name ../up", 2, ["--name '../up'"]),
    ("fit-density {w}/ckpt --name ..", 2, ["--name '..'"]),
    ("fit-density {w}/ckpt --name .tmp-x", 2, ["--name '.tmp-x'"]),
    ("fit-density {w}/ckpt --name Name", 2, ["--name 'Name'", "a-z, 0-9"]),
    ("fit-density {w}/ckpt --seed -1", 2, ["--seed", "greater than or equal to 0"]),
    ("fit-density {w}/ckpt --data {w}/empty", 1, ["empty is empty"]),
    ("fit-density {w}/ckpt --device tpu", 2, ["--device", "tpu"]),
    ("fit-density {n}", 1, ["no such directory"]),
    ("fit-density {w}/mine", 1, ["mine is no checkpoint directory"]),
    ("fit-density {w}/latents-only", 1, ["no config.json"]),
    ("fit-density {n} --latents {w}/missing.npy", 1, ["cannot read latents", "numpy.save"]),
    ("fit-density {n} --latents {w}/text.npy", 1, ["cannot read latents", "text.npy", "numpy.save"]),
    ("fit-density {n} --latents {w}/z.csv", 1, ["cannot read latents", "numpy.loadtxt", "z.csv"]),
    ("fit-density {n} --latents {w}/void.npy", 1, ["cannot read latents", "void.npy"]),
    ("fit-density {n} --latents {w}/empty", 1, ["cannot read latents"]),
    ("fit-density {n} --latents {w}/object.npy", 1, ["cannot read latents", "object.npy", "Python objects"]),
    ("fit-density {n} --latents {w}/flat.npy", 1, ["flat.npy holds no (N, d) array"]),
    ("fit-density {n} --latents {w}/cube.npy", 1, ["cube.npy holds no (N, d) array", "z[0]"]),
    ("fit-density {n} --latents {w}/strings.npy", 1, ["strings.npy holds no (N, d) array"]),
    ("fit-density {n} --latents {w}/single.npy", 1, ["single.npy", "N at least 3", "1 latent, too few"]),
    ("fit-density {n} --latents {w}/archive.npz", 1, ["archive.npz holds a, b", "numpy.load", "['a']"]),
    ("fit-density {n} --latents {w}/cut.npz", 1, ["cannot read latents", "cut.npz"]),
    ("fit-density {n} --latents {w}/nan.npy --components 2", 1, ["of 40 latents are not finite", "the first in row"]),
    ("fit-density {n} --latents {w}/good.npy --components 37", 1, ["37 components are more than the 36 latents"]),
    ("fit-density {n} --latents {w}/good.npy --data digits", 2, ["--latents and --data exclude each other"]),
    ("fit-density {w}/ckpt --latents {w}/good.npy", 1, ["is no directory that holds", "needs a new directory"]),
    ("fit-density {w}/mine --latents {w}/good.npy", 1, ["mine is no directory that holds", "new directory"]),
    ("fit-density {w}/file.txt --latents {w}/good.npy", 1, ["file.txt is no directory that holds"]),
    # -- sample
    ("sample {n} -o {n}.png", 1, ["no such directory"]),
    ("sample {w}/file.txt -o {n}.png", 1, ["file.txt", "director"]),
    ("sample {w}/mine -o {n}.png", 1, ["mine is no checkpoint directory"]),
    ("sample {w}/empty -o {n}.png", 1, ["empty is no checkpoint directory"]),
    ("sample {w}/nodensity -o {n}.png", 1, ["has no fitted density", "hint: raectl fit-density {w}/nodensity"]),
    ("sample {w}/nodensity -o {n}.npy", 1, ["has no fitted density", "hint: raectl fit-density {w}/nodensity"]),
    ("sample {w}/ckpt --density gmm-9 -o {n}.png", 1, ["no density 'gmm-9'", "gmm-2", "gaussian", "hint: raectl fit"]),
    ("sample {w}/nodensity --density gmm -o {n}.png", 1, ["no density 'gmm'", "it has: none"]),
    ("sample {w}/ckpt -o {n}/x.png", 1, ["does not exist", "hint: mkdir -p"]),
    ("sample {w}/ckpt -o {n}/x.npy", 1, ["does not exist", "hint: mkdir -p"]),
    ("sample {w}/ckpt --draws 5 -o {n}.png", 2, ["--draws 5 is for strings; images", "hint: omit --draws"]),
    ("sample {w}/ckpt --draws 5 -o {n}", 2, ["--draws 5 is for strings; images", "hint: omit --draws"]),
    ("sample {w}/latents-only --draws 5 -o {n}.npy", 2, ["--draws 5 is for decoded items", "omit --draws"]),
    ("sample {w}/ckpt -o {n}.doc", 2, ["cannot write items to", ".npz"]),
    ("sample {w}/ckpt -o {n}.pdf", 2, ["cannot write items to", ".npz", "becomes a directory"]),
    ("sample {w}/ckpt -o {w}/mine", 1, ["mine is not empty"]),
    ("sample {w}/ckpt -o {w}/ckpt", 1, ["ckpt is not empty"]),
    ("sample {w}/ckpt -n 0 -o {n}.png", 2, ["-n", "greater than or equal to 1"]),
    ("sample {w}/ckpt -n many -o {n}.png", 2, ["-n", "valid integer"]),
    ("sample {w}/ckpt --batch-size 0 -o {n}.png", 2, ["--batch-size", "greater than or equal to 1"]),
    ("sample {w}/ckpt --latents -o {n}.png", 2, ["--latents writes latents only, in a .npy", "new-latents.npy"]),
    ("sample {w}/latents-only -o {n}.png", 2, ["no decoder", "hint: -o new-latents.npy"]),
    ("sample {w}/latents-only --density kde -o {n}.npy", 1, ["no density 'kde'", "gmm-2"]),
    ("evaluate {w}/ckpt --data {w}/images --draws 5", 2, ["--draws 5 is for strings; images", "omit --draws"]),
    # -- reconstruct
    ("reconstruct {w}/ckpt --data {w}/missing -o {n}.png", 1, ["missing does not exist"]),
    ("reconstruct {w}/ckpt --data {w}/broken -o {n}.png", 1, ["none of the 3 images"]),
    ("reconstruct {w}/ckpt --data {w}/images -o {n}.mp4", 2, ["cannot write items to"]),
    ("reconstruct {w}/ckpt --data {w}/images -o {n}.mat", 2, ["cannot write items to", "new.mat"]),
    ("reconstruct {w}/ckpt --data {w}/images -o {n}/a/", 1, ["does not exist", "hint: mkdir -p"]),
    ("reconstruct {w}/ckpt --data {w}/images -o {n}/x.png", 1, ["does not exist", "hint: mkdir -p"]),
    ("reconstruct {w}/ckpt --data {w}/images -n 0 -o {n}.png", 2, ["-n", "greater than or equal to 1"]),
    ("reconstruct {w}/mine --data {w}/images -o {n}.png", 1, ["mine is no checkpoint directory"]),
    ("reconstruct {w}/latents-only --data {w}/images -o {n}.png", 1, ["no config.json"]),
    # -- info and demo
    ("info {n}", 1, ["no such directory"]),
    ("info {w}/mine", 1, ["mine is no checkpoint directory"]),
    ("info {w}/empty", 1, ["empty is no checkpoint directory"]),
    ("info {w}/file.txt", 1, ["file.txt"]),
    ("demo --out {w}/mine", 2, ["mine exists"]),
    ("demo --out {w}/ckpt", 2, ["ckpt exists"]),
    ("demo --out {w}/latents-only", 2, ["latents-only exists"]),
    ("demo --out {w}/file.txt", 2, ["file.txt exists"]),
    # -- the shape of the command line
    ("trane", 2, ["trane"]),
    ("--colour", 2, ["--colour"]),
    ("train --colour", 2, ["--colour", "hint: raectl train --help"]),
    ("train --epochs many", 2, ["--epochs", "valid integer", "hint: raectl train --help"]),
    ("train --epochs", 2, ["--epochs"]),
    ("train stray", 1, ["stray does not exist"]),
    ("train stray --data digits", 2, ["given twice", "stray"]),
    ("sample -n 3", 2, ["CKPT"]),
    ("sample {w}/ckpt", 2, ["--out"]),
    ("reconstruct {w}/ckpt -o {n}.png", 2, ["--data"]),
    ("info --debug=5 {w}/ckpt", 2, ["--debug"]),
]  # fmt: skip


@pytest.mark.parametrize(("command", "code", "fragments"), CASES, ids=[case[0] for case in CASES])
def test_mistake(
    cli: Cli, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, code: int,
    fragments: list[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert_mistake(cli, world, tmp_path, command, code, fragments)


def test_no_arguments_at_all(cli: Cli) -> None:
    result = cli.run()
    assert "Usage: raectl" in plain_words(result.out)
    assert "error: " not in result.err
    for command in ("sample", "fit-density", "reconstruct", "info"):
        result = cli.run(command)
        if "Usage: raectl" not in result.out:
            assert_clear_error(result, 2, "missing argument 'CKPT'", f"hint: raectl {command} --help")


def test_a_device_that_is_not_there(cli: Cli, world: World, tmp_path: Path) -> None:
    device = "mps" if not torch.backends.mps.is_available() else "cuda"
    for command in (
        ("train", "--data", world.path / "images", "--out", tmp_path / "new"),
        ("sample", world.path / "ckpt", "-o", tmp_path / "new.png"),
        ("fit-density", world.path / "ckpt", "--name", "new"),
        ("reconstruct", world.path / "ckpt", "--data", world.path / "images", "-o", tmp_path / "new.png"),
    ):
        result = cli.run(*command, "--device", device)
        assert_clear_error(result, 2, f"--device {device} is not available", "--device auto")
    assert tree(tmp_path) == {}
    assert tree(world.path) == world.content


# -- densities that do not fit ----------------------------------------------------------------------------------------


def test_a_density_of_other_weights_is_refused(cli: Cli, trained: Any, tmp_path: Path) -> None:
    cli("train", "--resume", "--out", trained.path, "--epochs", 6)
    assert raectl.load(trained.path, "cpu").epoch > 2, "the best weights are new ones"
    before = tree(trained.path)
    for out in ("out.png", "out.npy"):
        result = cli.run("sample", trained.path, "-o", tmp_path / out)
        assert_clear_error(result, 1, "gmm-2", "was fitted to other weights", "hint: raectl fit-density")
        assert not (tmp_path / out).exists()
    assert tree(trained.path) == before
    hint = result.lines("hint: ")[0].removeprefix("hint: raectl ")
    cli(*hint.split(), "--components", "2")
    cli("sample", trained.path, "-o", tmp_path / "out.png")


# -- what is not the user's mistake -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ZeroDivisionError, EOFError])
def test_a_defect_is_called_one_and_shown_on_request(
    cli: Cli, trained: Any, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def broken(self: object) -> None:
        raise kind("of all things")

    monkeypatch.setattr(raectl.checkpoint.directory.Directory, "read_log", broken)
    result = cli.run("info", trained.path, "--json")
    assert result.code == 1
    assert result.lines("error: ") == [f"error: {kind.__name__}: of all things"]
    assert "--debug" in result.lines("hint: ")[0]
    assert "Traceback" not in result.err
    assert kind.__name__ in json.loads(result.out)["error"]
    shown = cli.run("info", trained.path, "--debug")
    assert "Traceback" in shown.err
    assert "in broken" in shown.err


def test_out_of_memory(cli: Cli, trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def hungry(self: object) -> None:
        raise MemoryError

    monkeypatch.setattr(raectl.checkpoint.directory.Directory, "read_log", hungry)
    assert_clear_error(cli.run("info", trained.path), 1, "out of memory", "hint: ")


def test_an_error_cannot_act_on_the_terminal(cli: Cli, tmp_path: Path) -> None:
    evil = tmp_path / "[red]x[/red]\x1b[31m\nerror: two"
    result = cli.run("train", "--data", evil, "--out", tmp_path / "out")
    assert_clear_error(result, 1, "[red]x[/red]", "does not exist")
    assert ESCAPE not in result.err
    result = cli.run("sample", evil, "-o", tmp_path / "out.png")
    assert_clear_error(result, 1, "[red]x[/red]", "no such directory")
