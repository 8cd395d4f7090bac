"""Every mistake that a user of `raectl train` can make, and data that are not quite right."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.cli import Cli, World, assert_clear_error, assert_mistake, picture, tree, write_pictures

from raectl import registry

TRAIN = "train --image-size 12 --width 2 --latent-dim 4 --batch-size 16 --epochs 1"


#   arguments after `raectl`, with {w} for the world and {n} for a path that is not there; the exit code; what is said
CASES: list[tuple[str, int, list[str]]] = [
    # -- data
    (f"{TRAIN} --data {{w}}/missing --out {{n}}", 1, ["missing does not exist", "hint: a SOURCE is a folder"]),
    (f"{TRAIN} --data {{w}}/empty --out {{n}}", 1, ["empty is empty", "a folder of images is needed"]),
    (f"{TRAIN} --data {{w}}/texts --out {{n}}", 1, ["texts holds no images", ".csv, .txt", "hint: images are .png"]),
    (f"{TRAIN} --data {{w}}/broken --out {{n}}", 1, ["none of the 3 images", "a.png", "b.jpg", "c.png"]),
    (f"{TRAIN} --data {{w}}/textpng --out {{n}}", 1, ["none of the 1 images", "notes.png", "no image of a known"]),
    (f"{TRAIN} --data {{w}}/file.txt --out {{n}}", 2, ["file.txt holds strings; of which grammar?", "--grammar"]),
    (f"{TRAIN} --data {{w}}/bad.toml --out {{n}}", 1, ["bad.toml is of no known kind"]),
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
    (f"{TRAIN} --reg tikhonov=-1 --out {{n}}", 2, ["--reg tikhonov=-1 is out of range: 0 or above"]),
    (f"{TRAIN} --reg tikhonov=nan --out {{n}}", 2, ["--reg tikhonov=nan is no finite number"]),
    (f"{TRAIN} --reg tikhonov=inf --out {{n}}", 2, ["--reg tikhonov=inf is no finite number"]),
    (f"{TRAIN} --reg gradient-penalty,form=other --out {{n}}", 2, ["other", "exact, released", "form=exact"]),
    (f"{TRAIN} --reg gradient-penalty,part=2 --out {{n}}", 2, ["part=2 is out of range: above 0, up to 1"]),
    (f"{TRAIN} --reg gradient-penalty,prat=1 --out {{n}}", 2, ["has no option 'prat'", "did you mean part? known: "]),
    (f"{TRAIN} --reg gradient-penalty,part --out {{n}}", 2, ["'part' is not KEY=VALUE", "gradient-penalty,help"]),
    (f"{TRAIN} --reg spectral-norm,view=other --out {{n}}", 2, ["other", "torch, released", "view=torch"]),
    (f"{TRAIN} --reg l2,help --out {{n}}", 2, ["unknown regularizer 'l2'", "did you mean tikhonov?"]),
    (f"{TRAIN} --model gan --out {{n}}", 2, ["unknown model 'gan'", *registry.names("model")]),
    (f"{TRAIN} --arch unet --out {{n}}", 2, ["unknown architecture 'unet'", *registry.names("architecture")]),
    (f"{TRAIN} --reconstruction l3 --out {{n}}", 2, ["unknown reconstruction 'l3'", *registry.names("reconstruction")]),
    (f"{TRAIN} --reconstruction mae --out {{n}}", 2, ["unknown reconstruction 'mae'", "did you mean l1?"]),
    (f"{TRAIN} --reconstruction l1,slope=3 --out {{n}}", 2, ["l1 has no option 'slope'", "known: start, length"]),
    (f"{TRAIN} --reconstruction l2,start=3 --out {{n}}", 2, ["l2 has no option 'start'", "it has none"]),
    (f"{TRAIN} --reconstruction l1,start=-1 --out {{n}}", 2, ["l1,start=-1 is out of range: 0 to 1,000,000,000"]),
    (f"{TRAIN} --reconstruction l1,length=0.5 --out {{n}}", 2, ["l1,length=0.5 is no whole number", "l1,length=500"]),
    (f"{TRAIN} --reconstruction l1,start=soon --out {{n}}", 2, ["l1,start='soon' is no whole number", "l1,start=250"]),
    (f"{TRAIN} --reconstruction l1,start --out {{n}}", 2, ["'start' is not KEY=VALUE", "l1,help lists its keys"]),
    (f"{TRAIN} --reconstruction l1,start=1,start=2 --out {{n}}", 2, ["gives start twice"]),
    (f"{TRAIN} --reconstruction cross-entropy --data {{w}}/images --out {{n}}", 2,
     ["--reconstruction cross-entropy is not for images", "known for images: l2, l1"]),
    (f"{TRAIN} --fit squeeze --out {{n}}", 2, ["--fit 'squeeze'", "pad, crop, stretch"]),
    (f"{TRAIN} --precision fp16 --out {{n}}", 2, ["--precision 'fp16'", "auto, fp32, bf16"]),
    (f"{TRAIN} --device tpu --out {{n}}", 2, ["--device 'tpu'", "auto, cpu, cuda, cuda:N, mps"]),
    (f"{TRAIN} --epochs 0 --out {{n}}", 2, ["--epochs 0 is out of range"]),
    (f"{TRAIN} --batch-size 1 --out {{n}}", 2, ["--batch-size 1 is out of range"]),
    (f"{TRAIN} --lr nan --out {{n}}", 2, ["--lr nan"]),
    (f"{TRAIN} --lr -1 --out {{n}}", 2, ["--lr -1"]),
    (f"{TRAIN} --beta -1 --out {{n}}", 2, ["--beta -1"]),
    (f"{TRAIN} --image-size 7 --out {{n}}", 2, ["--image-size 7 is out of range: 8 to 512"]),
    (f"{TRAIN} --image-size 513 --out {{n}}", 2, ["--image-size 513"]),
    (f"{TRAIN} --val-fraction 1 --out {{n}}", 2, ["--val-fraction 1"]),
    (f"{TRAIN} --seed -1 --out {{n}}", 2, ["--seed -1"]),
    (f"{TRAIN} --model ae --beta 1 --out {{n}}", 2, ["--beta 1 has no effect", "model ae"]),
    (f"{TRAIN} --dry-run --model ae --beta 1 --out {{n}}", 2, ["--beta 1 has no effect", "model ae"]),
    (f"{TRAIN} --latent-dim 0 --out {{n}}", 2, ["--latent-dim 0"]),
    (f"{TRAIN} --preset mnist/gan --out {{n}}", 2, ["unknown --preset 'mnist/gan'", "mnist/rae-l2"]),
    (f"{TRAIN} --config {{w}}/bad.toml --out {{n}}", 1, ["bad.toml is not valid TOML"]),
    (f"{TRAIN} --config {{w}}/binary.toml --out {{n}}", 1, ["binary.toml is not valid TOML"]),
    (f"{TRAIN} --config {{w}}/missing.toml --out {{n}}", 1, ["cannot read", "missing.toml", "No such file"]),
    (f"{TRAIN} --config {{w}}/empty --out {{n}}", 1, ["cannot read", "empty"]),
    (f"{TRAIN} --config {{w}}/unknown.toml --out {{n}}", 2, ["unknown option 'colour_of_the_sky'", "known: "]),
    (f"{TRAIN} --config {{w}}/table.toml --out {{n}}", 2, ["unknown option 'train'"]),
    ("train --config {w}/type.toml --out {n}", 2, ["--epochs 'many' is no whole number"]),
    ("train --config {w}/reg.toml --out {n}", 2, ["--reg 5"]),
    ("train --config {w}/out.toml", 2, ["out", "5"]),
    ("train --config {w}/data.toml --out {n}", 2, ["data = [1] is no text"]),
    # -- where to
    (f"{TRAIN} --data {{w}}/images --out {{w}}/ckpt", 2, ["ckpt exists", "--resume", "--overwrite"]),
    (f"{TRAIN} --data {{w}}/images --out {{w}}/mine", 2, ["mine exists"]),
    (f"{TRAIN} --data {{w}}/images --out {{w}}/file.txt", 2, ["file.txt exists"]),
    (f"{TRAIN} --data {{w}}/images --out {{w}}/mine --overwrite", 1, ["mine is no checkpoint", "not removed"]),
    (f"{TRAIN} --data {{w}}/images --out {{w}}/file.txt --overwrite", 1, ["file.txt is no checkpoint directory"]),
    (f"{TRAIN} --data {{w}}/images --out {{w}}/file.txt/a", 1, ["cannot write", "file.txt/a"]),
    (f"{TRAIN} --data {{w}}/images --out {{w}}/ckpt --resume --overwrite", 2, ["exclude each other"]),
    # -- resuming
    ("train --resume --out {n}", 1, ["no such directory", "hint: raectl train"]),
    ("train --resume --out {w}/mine", 1, ["mine is no checkpoint directory", "no config.json"]),
    ("train --resume --out {w}/latents-only", 1, ["no config.json"]),
    ("train --resume --out {w}/ckpt --width 3", 2,
     ["--width differs from the 2 with which {w}/ckpt was begun", "only --epochs, --patience, --device"]),
    ("train --resume --out {w}/ckpt --seed 1", 2, ["--seed differs from the 0 with"]),
    ("train --resume --out {w}/ckpt --reg none", 2, ["--reg differs from the", "tikhonov"]),
    ("train --resume --out {w}/ckpt --reg tikhonov=5", 2, ["--reg differs from the", "tikhonov"]),
    ("train --resume --out {w}/ckpt --reconstruction l1", 2, ["--reconstruction differs from the l2 with which"]),
    ("train --resume --out {w}/ckpt --reconstruction l2,start=1", 2, ["l2 has no option 'start'"]),
    ("train --resume --out {w}/ckpt --model vae", 2, ["--model differs from the 'rae' with"]),
    ("train --resume --out {w}/ckpt --preset mnist/vae", 2, ["differs from"]),
    ("train --resume --out {w}/ckpt --data {w}/others", 1, ["others is not the data", "was trained on"]),
    ("train --resume --out {w}/ckpt --data {w}/missing", 1, ["missing does not exist"]),
]  # fmt: skip


@pytest.mark.parametrize(("command", "code", "fragments"), CASES, ids=[case[0] for case in CASES])
def test_mistake(
    cli: Cli, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, code: int,
    fragments: list[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert_mistake(cli, world, tmp_path, command, code, fragments)


def test_bf16_where_it_is_not(cli: Cli, trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("device", "training.resuming"):
        monkeypatch.setattr(f"raectl.{module}.has_bf16", lambda device: False)
    out = trained.path.parent / "new"
    result = cli.run("train", "--data", trained.data, "--out", out, "--precision", "bf16")
    assert_clear_error(result, 2, "--precision bf16 is not available", "--precision fp32")
    assert not out.exists()
    config = trained.path / "config.json"
    config.write_text(config.read_text().replace('"precision": "fp32"', '"precision": "bf16"'))
    before = tree(trained.path)
    resume = ("train", "--resume", "--out", trained.path, "--epochs", 3)
    result = cli.run(*resume)
    assert_clear_error(result, 2, "was begun with --precision bf16, which is not available", "train anew")
    assert "--resume" not in result.lines("hint: ")[0]
    result = cli.run(*resume, "--precision", "fp32")
    assert_clear_error(result, 2, "--precision differs from the 'bf16'")
    assert "--precision" not in result.lines("hint: ")[0], "the two hints do not send a user in a circle"
    assert tree(trained.path) == before


@pytest.mark.parametrize(
    "wrong",
    [
        "--reg spectral-norm=1",
        "--reg gradient-penalty,form=other",
        "--reg spectral-norm,view=other",
        "--model ae --beta 1",
        "--reconstruction l1,slope=3",
        "--reconstruction l1,start=-1",
        "--precision bf16",
        "--device mps",
        "--out {w}/mine",
        "--epochs 0",
    ],
)
@pytest.mark.parametrize("how", ["", "--dry-run"])
def test_what_is_wrong_with_the_options_is_said_before_the_data_are_opened(
    cli: Cli, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str, how: str
) -> None:
    def fail(*_: object) -> None:
        pytest.fail("the data were opened")

    if how and "--out" in wrong:
        return  # nothing is written, so it does not matter what is there
    for name in ("raectl.training.run.open_dataset", "raectl.data.open_dataset"):
        monkeypatch.setattr(name, fail)
    monkeypatch.setattr("raectl.device.has_bf16", lambda device: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    arguments = f"{TRAIN} --out {tmp_path / 'new'} {wrong} {how}".format(w=world.path).split()
    assert_clear_error(cli.run(*arguments), 2)
    assert tree(tmp_path) == {}


# -- data that are not quite right ------------------------------------------------------------------------------------


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
