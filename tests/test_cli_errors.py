"""Every mistake that a user can make: one clear line, one useful hint, the right exit code, nothing left behind."""

import errno
import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_helpers import (
    ESCAPE,
    Cli,
    Result,
    assert_clear_error,
    no_leftovers,
    picture,
    plain_words,
    tree,
    write_pictures,
)
from PIL import Image

import raectl
from raectl import registry

TRAIN = "train --image-size 12 --width 2 --latent-dim 4 --batch-size 16 --epochs 1"
HOLDS_OTHER_THINGS = "holds other things"


@dataclass(frozen=True)
class World:
    """A directory of everything that can be wrong, `{w}` in the cases below, and what is in it."""

    path: Path
    content: dict[str, bytes]


@pytest.fixture(scope="session")
def world(original: Any, tmp_path_factory: pytest.TempPathFactory) -> World:
    w = tmp_path_factory.mktemp("world")
    shutil.copytree(original.path, w / "ckpt")
    shutil.copytree(original.path, w / "nodensity")
    shutil.rmtree(w / "nodensity" / "densities")
    shutil.copytree(original.data, w / "images")
    write_pictures(w / "others", 20)
    (w / "empty").mkdir()
    for name, files in {
        "texts": {"a.txt": b"text", "b.csv": b"1,2"},
        "broken": {"a.png": b"\x89PNG\r\n\x1a\nrubbish", "b.jpg": b"", "c.png": b"nothing"},
        "textpng": {"notes.png": b"Dear diary, this is no image.\n"},
        "mine": {"thesis.txt": HOLDS_OTHER_THINGS.encode()},
    }.items():
        (w / name).mkdir()
        for file, content in files.items():
            (w / name / file).write_bytes(content)
    (w / "file.txt").write_text(HOLDS_OTHER_THINGS)
    (w / "one.png").write_bytes((w / "images" / "0000.png").read_bytes())
    for name, text in {
        "bad": "epochs = = 3",
        "unknown": "colour-of-the-sky = 3",
        "type": 'epochs = "many"',
        "out": "out = 5",
        "data": "data = [1]",
        "reg": "reg = 5",
        "table": "[train]\nepochs = 3",
    }.items():
        (w / f"{name}.toml").write_text(text)
    (w / "binary.toml").write_bytes(b"\xff\xfe\x00")
    z = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    np.save(w / "good.npy", z)
    np.save(w / "flat.npy", z[:, 0])
    np.save(w / "cube.npy", z[None])
    np.save(w / "nan.npy", np.where(z > 1, np.nan, z))
    np.save(w / "object.npy", np.array([[{"a": 1}, None]], dtype=object), allow_pickle=True)
    np.save(w / "strings.npy", np.array([["a", "b"]] * 4))
    np.save(w / "single.npy", z[:1])
    (w / "text.npy").write_text("no array")
    (w / "void.npy").write_bytes(b"")
    np.savez(w / "archive.npz", z=z)
    raectl.fitting.fit_latents(w / "latents-only", w / "good.npy", "gmm", components=2)
    return World(w, tree(w))


#   arguments after `raectl`, with {w} for the world and {n} for a path that is not there; the exit code; what is said
CASES: list[tuple[str, int, list[str]]] = [
    # -- data
    (f"{TRAIN} --data {{w}}/missing --out {{n}}", 1, ["missing does not exist", "hint: a SOURCE is a folder"]),
    (f"{TRAIN} --data {{w}}/empty --out {{n}}", 1, ["empty is empty", "a folder of images is needed"]),
    (f"{TRAIN} --data {{w}}/texts --out {{n}}", 1, ["texts holds no images", ".csv, .txt", "hint: images are .png"]),
    (f"{TRAIN} --data {{w}}/broken --out {{n}}", 1, ["none of the 3 images", "a.png", "b.jpg", "c.png"]),
    (f"{TRAIN} --data {{w}}/textpng --out {{n}}", 1, ["none of the 1 images", "notes.png", "no image of a known"]),
    (f"{TRAIN} --data {{w}}/file.txt --out {{n}}", 1, ["file.txt is of no known kind"]),
    (f"{TRAIN} --data {{w}}/one.png --out {{n}}", 1, ["is a single image", "the folder that it is in"]),
    (f"{TRAIN} --data {{w}}/flat.npy --out {{n}}", 1, ["shape (40,)", "N H W"]),
    (f"{TRAIN} --data {{w}}/object.npy --out {{n}}", 1, ["Python objects"]),
    (f"{TRAIN} --background sky --data {{w}}/images --out {{n}}", 2, ["unknown colour 'sky'", "#rrggbb"]),
    # -- regularizers and other options
    (f"{TRAIN} --reg l2 --out {{n}}", 2, ["unknown regularizer 'l2'", *registry.names("regularizer")]),
    (f"{TRAIN} --reg tikhonov --reg sn --out {{n}}", 2, ["unknown regularizer 'sn'", "spectral-norm"]),
    (f"{TRAIN} --reg spectral-norm=1 --out {{n}}", 2, ["spectral-norm takes no weight", "hint: --reg spectral-norm"]),
    (f"{TRAIN} --reg tikhonov=abc --out {{n}}", 2, ["'abc' is no number", "hint: --reg tikhonov=1e-4"]),
    (f"{TRAIN} --reg tikhonov= --out {{n}}", 2, ["is no number", "hint: --reg tikhonov=1e-4"]),
    (f"{TRAIN} --reg tikhonov=-1 --out {{n}}", 2, ["tikhonov=-1", "finite number, 0 or above"]),
    (f"{TRAIN} --reg tikhonov=nan --out {{n}}", 2, ["tikhonov=nan", "finite number, 0 or above"]),
    (f"{TRAIN} --reg tikhonov=inf --out {{n}}", 2, ["tikhonov=inf", "finite number, 0 or above"]),
    (f"{TRAIN} --gp-form exact --out {{n}}", 2, ["--gp-form needs --reg gradient-penalty"]),
    (f"{TRAIN} --reg gradient-penalty --gp-form other --out {{n}}", 2, ["other", "exact", "released"]),
    (f"{TRAIN} --reg spectral-norm --sn-view other --out {{n}}", 2, ["other", "torch", "released"]),
    (f"{TRAIN} --model gan --out {{n}}", 2, ["unknown model 'gan'", *registry.names("model")]),
    (f"{TRAIN} --arch unet --out {{n}}", 2, ["unknown architecture 'unet'", *registry.names("architecture")]),
    (f"{TRAIN} --fit squeeze --out {{n}}", 2, ["--fit 'squeeze'", "pad, crop, stretch"]),
    (f"{TRAIN} --precision fp16 --out {{n}}", 2, ["--precision 'fp16'", "auto, fp32, bf16"]),
    (f"{TRAIN} --device tpu --out {{n}}", 2, ["--device 'tpu'", "auto, cpu, cuda, mps"]),
    (f"{TRAIN} --epochs 0 --out {{n}}", 2, ["--epochs 0 is out of range"]),
    (f"{TRAIN} --batch-size 1 --out {{n}}", 2, ["--batch-size 1 is out of range"]),
    (f"{TRAIN} --lr nan --out {{n}}", 2, ["--lr nan"]),
    (f"{TRAIN} --lr -1 --out {{n}}", 2, ["--lr -1"]),
    (f"{TRAIN} --beta -1 --out {{n}}", 2, ["--beta -1"]),
    (f"{TRAIN} --image-size 7 --out {{n}}", 2, ["--image-size 7 is out of range: 8 to 512"]),
    (f"{TRAIN} --image-size 513 --out {{n}}", 2, ["--image-size 513"]),
    (f"{TRAIN} --val-fraction 1 --out {{n}}", 2, ["--val-fraction 1"]),
    (f"{TRAIN} --seed -1 --out {{n}}", 2, ["--seed -1"]),
    (f"{TRAIN} --latent-dim 0 --out {{n}}", 2, ["--latent-dim 0"]),
    (f"{TRAIN} --preset mnist/gan --out {{n}}", 2, ["unknown --preset 'mnist/gan'", "mnist/rae-l2"]),
    (f"{TRAIN} --config {{w}}/bad.toml --out {{n}}", 1, ["bad.toml is not valid TOML"]),
    (f"{TRAIN} --config {{w}}/binary.toml --out {{n}}", 1, ["binary.toml is not valid TOML"]),
    (f"{TRAIN} --config {{w}}/missing.toml --out {{n}}", 1, ["cannot read", "missing.toml", "No such file"]),
    (f"{TRAIN} --config {{w}}/empty --out {{n}}", 1, ["cannot read", "empty"]),
    (f"{TRAIN} --config {{w}}/unknown.toml --out {{n}}", 2, ["unknown option 'colour_of_the_sky'", "known: "]),
    (f"{TRAIN} --config {{w}}/table.toml --out {{n}}", 2, ["unknown option 'train'"]),
    ("train --config {w}/type.toml --out {n}", 2, ["--epochs 'many' is no int"]),
    ("train --config {w}/reg.toml --out {n}", 2, ["--reg 5"]),
    ("train --config {w}/out.toml", 2, ["out", "5"]),
    ("train --config {w}/data.toml --out {n}", 2, ["data", "[1]"]),
    # -- where to
    (f"{TRAIN} --data {{w}}/images --out {{w}}/ckpt", 2, ["ckpt exists", "--resume", "--overwrite"]),
    (f"{TRAIN} --data {{w}}/images --out {{w}}/mine", 2, ["mine exists"]),
    (f"{TRAIN} --data {{w}}/images --out {{w}}/file.txt", 2, ["file.txt exists"]),
    (f"{TRAIN} --data {{w}}/images --out {{w}}/mine --overwrite", 1, ["mine is no checkpoint", "not removed"]),
    (f"{TRAIN} --data {{w}}/images --out {{w}}/file.txt --overwrite", 1, ["file.txt is no checkpoint directory"]),
    (f"{TRAIN} --data {{w}}/images --out {{n}}/a/b", 1, ["does not exist", "hint: mkdir -p"]),
    (f"{TRAIN} --data {{w}}/images --out {{w}}/ckpt --resume --overwrite", 2, ["exclude each other"]),
    # -- resuming
    ("train --resume --out {n}", 1, ["no such directory", "hint: raectl train"]),
    ("train --resume --out {w}/mine", 1, ["mine is no checkpoint directory", "no config.json"]),
    ("train --resume --out {w}/latents-only", 1, ["no config.json"]),
    ("train --resume --out {w}/ckpt --width 3", 2, ["--width 3 differs from 2", "--epochs and --device may change"]),
    ("train --resume --out {w}/ckpt --seed 1", 2, ["--seed 1 differs from 0"]),
    ("train --resume --out {w}/ckpt --reg none", 2, ["--reg", "tikhonov"]),
    ("train --resume --out {w}/ckpt --reg tikhonov=5", 2, ["--reg", "5.0"]),
    ("train --resume --out {w}/ckpt --model vae", 2, ["--model vae differs from rae"]),
    ("train --resume --out {w}/ckpt --preset mnist/vae", 2, ["differs from"]),
    ("train --resume --out {w}/ckpt --data {w}/others", 1, ["others is not the data", "was trained on"]),
    ("train --resume --out {w}/ckpt --data {w}/missing", 1, ["missing does not exist"]),
    # -- fit-density
    ("fit-density {w}/ckpt --components 1000", 1, ["--components 1000 is more than the 54 latents", "54 or fewer"]),
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
    ("fit-density {n} --latents {w}/void.npy", 1, ["cannot read latents", "void.npy"]),
    ("fit-density {n} --latents {w}/empty", 1, ["cannot read latents"]),
    ("fit-density {n} --latents {w}/object.npy", 1, ["cannot read latents", "object.npy"]),
    ("fit-density {n} --latents {w}/flat.npy", 1, ["flat.npy holds no (N, d) array"]),
    ("fit-density {n} --latents {w}/cube.npy", 1, ["cube.npy holds no (N, d) array"]),
    ("fit-density {n} --latents {w}/strings.npy", 1, ["strings.npy holds no (N, d) array"]),
    ("fit-density {n} --latents {w}/single.npy", 1, ["single.npy", "N at least 2"]),
    ("fit-density {n} --latents {w}/archive.npz", 1, ["archive.npz holds no (N, d) array"]),
    ("fit-density {n} --latents {w}/nan.npy --components 2", 1, ["not finite"]),
    ("fit-density {n} --latents {w}/good.npy --components 37", 1, ["--components 37 is more than the 36 latents"]),
    ("fit-density {n} --latents {w}/good.npy --data digits", 2, ["--latents and --data exclude each other"]),
    ("fit-density {w}/ckpt --latents {w}/good.npy", 1, ["ckpt exists", "--latents needs a new directory"]),
    ("fit-density {w}/mine --latents {w}/good.npy", 1, ["mine exists", "new directory"]),
    ("fit-density {w}/file.txt --latents {w}/good.npy", 1, ["file.txt exists"]),
    ("fit-density {n}/a --latents {w}/good.npy", 1, ["does not exist", "hint: mkdir -p"]),
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
    ("sample {w}/ckpt -o {n}.doc", 2, ["cannot write items to", ".npz"]),
    ("sample {w}/ckpt -o {w}/mine", 1, ["mine is not empty"]),
    ("sample {w}/ckpt -o {w}/ckpt", 1, ["ckpt is not empty"]),
    ("sample {w}/ckpt -n 0 -o {n}.png", 2, ["-n", "greater than or equal to 1"]),
    ("sample {w}/ckpt -n many -o {n}.png", 2, ["-n", "valid integer"]),
    ("sample {w}/ckpt --batch-size 0 -o {n}.png", 2, ["--batch-size", "greater than or equal to 1"]),
    ("sample {w}/latents-only -o {n}.png", 2, ["no decoder", "hint: -o latents.npy"]),
    ("sample {w}/latents-only --density kde -o {n}.npy", 1, ["no density 'kde'", "gmm-2"]),
    # -- reconstruct
    ("reconstruct {w}/ckpt --data {w}/missing -o {n}.png", 1, ["missing does not exist"]),
    ("reconstruct {w}/ckpt --data {w}/broken -o {n}.png", 1, ["none of the 3 images"]),
    ("reconstruct {w}/ckpt --data {w}/images -o {n}.mp4", 2, ["cannot write items to"]),
    ("reconstruct {w}/ckpt --data {w}/images -o {n}/x.png", 1, ["does not exist", "hint: mkdir -p"]),
    ("reconstruct {w}/ckpt --data {w}/images -n 0 -o {n}.png", 2, ["-n", "greater than or equal to 1"]),
    ("reconstruct {w}/mine --data {w}/images -o {n}.png", 1, ["mine is no checkpoint directory"]),
    ("reconstruct {w}/latents-only --data {w}/images -o {n}.png", 1, ["no config.json"]),
    # -- info and demo
    ("info {n}", 1, ["no such directory"]),
    ("info {w}/mine", 1, ["mine is no checkpoint directory"]),
    ("info {w}/empty", 1, ["empty is no checkpoint directory"]),
    ("info {w}/file.txt", 1, ["file.txt"]),
    ("demo --out {w}/mine", 1, ["mine is no checkpoint directory", "not removed"]),
    ("demo --out {n}/a/b", 1, ["does not exist"]),
    # -- the shape of the command line
    ("trane", 2, ["trane"]),
    ("--colour", 2, ["--colour"]),
    ("train --colour", 2, ["--colour", "hint: raectl train --help"]),
    ("train --epochs many", 2, ["--epochs", "valid integer", "hint: raectl train --help"]),
    ("train --epochs", 2, ["--epochs"]),
    ("train stray", 2, ["stray"]),
    ("sample -n 3", 2, ["CKPT"]),
    ("sample {w}/ckpt", 2, ["--out"]),
    ("reconstruct {w}/ckpt -o {n}.png", 2, ["--data"]),
    ("info --debug=5 {w}/ckpt", 2, ["--debug"]),
]  # fmt: skip


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize(("command", "code", "fragments"), CASES, ids=[case[0] for case in CASES])
def test_mistake(
    cli: Cli, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, code: int,
    fragments: list[str], as_json: bool,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    names = {"w": str(world.path), "n": str(tmp_path / "new")}
    arguments = [part.format(**names) for part in command.split()]
    result = cli.run(*arguments, *(["--json"] if as_json else []))
    assert_clear_error(result, code, *(fragment.format(**names) for fragment in fragments))
    assert_stdout(result, as_json)
    assert tree(world.path) == world.content, "what was there is as it was"
    assert tree(tmp_path) == {}, "nothing new"


def assert_stdout(result: Result, as_json: bool) -> None:
    if not as_json:
        assert result.out == ""
        return
    assert set(result.json) == {"error", "hint"}
    assert "error: " + " ".join(result.json["error"].split("\n")) in result.err
    hints = result.lines("hint: ")
    assert bool(hints) == bool(result.json["hint"])


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
        assert_clear_error(result, 2, f"--device {device} is not to be had", "--device auto")
    assert tree(tmp_path) == {}
    assert tree(world.path) == world.content


def test_bf16_where_it_is_not(cli: Cli, trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from raectl import build

    monkeypatch.setattr(build, "has_bf16", lambda device: False)
    out = trained.path.parent / "new"
    result = cli.run("train", "--data", trained.data, "--out", out, "--precision", "bf16")
    assert_clear_error(result, 2, "--precision bf16 is not to be had", "--precision fp32")
    assert not out.exists()
    config = trained.path / "config.json"
    config.write_text(config.read_text().replace('"precision": "fp32"', '"precision": "bf16"'))
    result = cli.run("train", "--resume", "--out", trained.path, "--epochs", 3)
    assert_clear_error(result, 2, "--precision bf16 is not to be had")


# -- data that are not quite right -----------------------------------------------------------------------------------


def test_one_truncated_image_is_skipped_counted_and_named(cli: Cli, tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "images", 30)
    whole = (data / "0007.png").read_bytes()
    (data / "0007.png").write_bytes(whole[: len(whole) // 2])
    result = cli(*TRAIN.split(), "--data", data, "--out", tmp_path / "out")
    (note,) = [line for line in result.err.splitlines() if "skipped" in line]
    assert note.startswith("1 of 30 images")
    assert "0007.png" in note
    assert cli("info", tmp_path / "out", "--json").json["data"]["n"] == 29
    again = cli("reconstruct", tmp_path / "out", "--data", data, "-o", tmp_path / "pairs.npz", "--json")
    assert "0007.png" in again.err, "also when the packed array comes from the cache"
    assert again.json["n"] == 29


def test_too_many_broken_images_stop_the_run(cli: Cli, tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "images", 30)
    for index in range(6):
        (data / f"{index:04}.png").write_bytes(b"rubbish")
    result = cli.run(*TRAIN.split(), "--data", data, "--out", tmp_path / "out")
    assert_clear_error(result, 1, "6 of 30 images", "0000.png", "and 1 more")
    assert not (tmp_path / "out").exists()


def test_one_image_is_too_few(cli: Cli, tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "images", 1)
    result = cli.run(*TRAIN.split(), "--data", data, "--out", tmp_path / "out")
    assert_clear_error(result, 1, "too few to train on")
    assert not (tmp_path / "out").exists()


def test_data_of_another_size_or_mode_are_converted(cli: Cli, trained: Any, tmp_path: Path) -> None:
    big = write_pictures(tmp_path / "big", 6, sizes=(40, 50), grey=True)
    result = cli("reconstruct", trained.path, "--data", big, "-o", tmp_path / "big.npz", "--json")
    assert result.json["n"] == 6
    with np.load(tmp_path / "big.npz") as arrays:
        assert arrays["images"].shape == arrays["originals"].shape == (6, 16, 16, 3)
    grey = tmp_path / "grey"
    cli(*TRAIN.split(), "--data", big, "--out", grey)
    assert cli("info", grey, "--json").json["data"]["shape"] == [12, 12, 1]
    cli("reconstruct", grey, "--data", trained.data, "-o", tmp_path / "grey.npz")
    with np.load(tmp_path / "grey.npz") as arrays:
        assert arrays["images"].shape == (60, 12, 12, 1)
    cli("fit-density", grey, "--data", trained.data, "--components", 2)


def test_the_recorded_data_have_changed(cli: Cli, tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "images", 30)
    out = tmp_path / "out"
    cli(*TRAIN.split(), "--data", data, "--out", out)
    Image.fromarray(picture(99, 12)).save(data / "0003.png")
    before = tree(out)
    result = cli.run("fit-density", out, "--components", 2)
    assert_clear_error(result, 1, str(data), "no longer holds the data", "--data")
    result = cli.run("train", "--resume", "--out", out, "--epochs", 2)
    assert_clear_error(result, 1, "is not the data that", str(out))
    assert tree(out) == before
    cli("fit-density", out, "--components", 2, "--data", data)
    shutil.rmtree(data)
    result = cli.run("fit-density", out, "--components", 2)
    assert_clear_error(result, 1, "the training data cannot be opened", str(data), "--data")


# -- densities that do not fit ---------------------------------------------------------------------------------------


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


# -- a disk that refuses ---------------------------------------------------------------------------------------------

WRITES = {
    "train": "train --resume --out {ckpt} --epochs 3",
    "fit-density": "fit-density {ckpt} --components 3",
    "sample.png": "sample {ckpt} -n 9 -o {out}.png",
    "sample.npz": "sample {ckpt} -n 9 -o {out}.npz",
    "sample.npy": "sample {ckpt} -n 9 -o {out}.npy",
    "sample": "sample {ckpt} -n 9 -o {out}",
    "reconstruct": "reconstruct {ckpt} --data {data} -o {out}.png",
}


@pytest.mark.parametrize("command", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("when", ["rename", "flush"])
def test_a_disk_that_refuses_leaves_what_was_there(
    cli: Cli, trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, when: str
) -> None:
    for suffix in (".png", ".npz", ".npy"):
        (tmp_path / f"out{suffix}").write_text("of before")
    before = tree(tmp_path)
    cli("info", trained.path)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if when == "rename":
            patch.setattr(Path, "replace", refuse)
        else:
            patch.setattr("os.fsync", refuse)
        arguments = command.format(ckpt=trained.path, out=tmp_path / "out", data=trained.data).split()
        result = cli.run(*arguments)
    assert_clear_error(result, 1, "cannot write", "hint: free some space")
    assert result.out == ""
    no_leftovers(tmp_path)
    after = {name: content for name, content in tree(tmp_path).items() if name != "ckpt/log.jsonl"}
    assert after == {name: content for name, content in before.items() if name != "ckpt/log.jsonl"}
    raectl.load(trained.path, "cpu").sample(3)


FULL_DISK = """
import json, resource, sys
from raectl.cli import main as program

# The kernel refuses writes in the middle of a file, as on a full disk; output to a pipe is not limited.
resource.setrlimit(resource.RLIMIT_FSIZE, (60, 60))
for command in json.loads(sys.argv[1]):
    sys.argv = ["raectl", *command]
    print("exit", program._run(), file=sys.stderr)
"""


def test_a_disk_that_is_full_in_the_middle_of_a_file(cli: Cli, trained: Any, tmp_path: Path) -> None:
    cli("train", "--data", trained.data, "--dry-run", "--image-size", 12)  # the packed array is in the cache now
    for suffix in (".png", ".npz", ".npy"):
        (tmp_path / f"out{suffix}").write_text("of before")
    before = tree(tmp_path)
    commands = [
        command.format(ckpt=trained.path, out=tmp_path / "out", data=trained.data).split()
        for command in (
            *WRITES.values(),
            f"{TRAIN} --data {{data}} --out {tmp_path / 'new'}",
            f"{TRAIN} --data {{data}} --out {{ckpt}} --overwrite",
        )
    ]
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, json.dumps(commands)], capture_output=True, text=True, check=True
    )
    results = re.findall(r"(.*?)^exit (\d+)\n", done.stderr, re.DOTALL | re.MULTILINE)
    assert len(results) == len(commands)
    for command, (stderr, code) in zip(commands, results, strict=True):
        assert_clear_error(Result(int(code), "", f"{command}\n{stderr}"), 1, "cannot write", "hint: free some space")
    assert done.stdout == ""
    no_leftovers(tmp_path)
    log = "ckpt/log.jsonl"  # may hold a part of a line, which is cut off when the run is resumed
    assert {**tree(tmp_path), log: b""} == {**before, log: b""}
    cli("sample", trained.path, "-o", tmp_path / "out.png")
    cli("train", "--resume", "--out", trained.path, "--epochs", 3)


# -- what is not the user's mistake ----------------------------------------------------------------------------------


def test_a_defect_is_called_one_and_shown_on_request(cli: Cli, trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object) -> None:
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr(raectl.directory.Directory, "read_log", broken)
    result = cli.run("info", trained.path, "--json")
    assert result.code == 1
    assert result.lines("error: ") == ["error: ZeroDivisionError: of all things"]
    assert "--debug" in result.lines("hint: ")[0]
    assert "Traceback" not in result.err
    assert "ZeroDivisionError" in json.loads(result.out)["error"]
    shown = cli.run("info", trained.path, "--debug")
    assert "Traceback" in shown.err
    assert "in broken" in shown.err


def test_out_of_memory(cli: Cli, trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def hungry(self: object) -> None:
        raise MemoryError

    monkeypatch.setattr(raectl.directory.Directory, "read_log", hungry)
    assert_clear_error(cli.run("info", trained.path), 1, "out of memory", "hint: ")


def test_an_error_cannot_act_on_the_terminal(cli: Cli, tmp_path: Path) -> None:
    evil = tmp_path / "[red]x[/red]\x1b[31m\nerror: two"
    result = cli.run("train", "--data", evil, "--out", tmp_path / "out")
    assert_clear_error(result, 1, "[red]x[/red]", "does not exist")
    assert ESCAPE not in result.err
    result = cli.run("sample", evil, "-o", tmp_path / "out.png")
    assert_clear_error(result, 1, "[red]x[/red]", "no such directory")
