"""Every kind of model, size and number of images can be sharpened; what cannot be is refused before any work."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.checkpoints import KilledError
from support.cli import Cli, assert_clear_error, tree, write_pictures

import raectl
from raectl.errors import RaectlError, UsageError

STEPS = 40
SMALL = ("--image-size", "12", "--width", "2", "--latent-dim", "4", "--batch-size", "16", "--device", "cpu",
         "--precision", "fp32")  # fmt: skip


def sharpen(cli: Cli, path: Path, *more: object) -> Any:
    return cli("sharpen", path, "--steps", STEPS, "--device", "cpu", *more)


def test_what_cannot_be_sharpened_is_refused_before_training(cli: Cli, original: Any, tmp_path: Path) -> None:
    (tmp_path / "formulas.txt").write_text("x+1\nsin(x)\nx*x\n" * 4)
    train = ("train", "--out", tmp_path / "ckpt", "--epochs", 1, "--sharpen", "--data")
    result = cli.run(*train, tmp_path / "formulas.txt", "--grammar", "expressions")
    assert_clear_error(result, 2, "--sharpen is for images", "omit --sharpen")
    result = cli.run(*train, original.data, "--val-fraction", 0)
    assert_clear_error(result, 2, "held-out", "--val-fraction 0.1")
    assert not (tmp_path / "ckpt").exists()


def test_what_cannot_be_sharpened_is_refused_when_it_goes_on(cli: Cli, original: Any, tmp_path: Path) -> None:
    (tmp_path / "formulas.txt").write_text("x+1\nsin(x)\nx*x\n" * 4)
    cli("train", "--data", tmp_path / "formulas.txt", "--grammar", "expressions", "--width", 2, "--epochs", 1, "--out",
        tmp_path / "a")  # fmt: skip
    cli("train", "--data", original.data, *SMALL, "--epochs", 1, "--val-fraction", 0, "--out", tmp_path / "b")
    for path, said in ((tmp_path / "a", "--sharpen is for images"), (tmp_path / "b", "held-out")):
        before = tree(path)
        assert_clear_error(cli.run("train", "--resume", "--sharpen", "--epochs", 2, "--out", path), 2, said)
        assert tree(path) == before
    assert_clear_error(cli.run("sharpen", tmp_path / "b"), 1, "held-out images", "--val-fraction 0.1")


def test_bf16_wants_the_hardware(cli: Cli, trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from support.checkpoints import edit

    edit(trained.path / "config.json", lambda r: r["config"].update(precision="bf16"))
    monkeypatch.setattr("raectl.training.sharpening.run.has_bf16", lambda device: False)
    assert_clear_error(cli.run("sharpen", trained.path), 2, "--precision bf16", "where it was trained")


def test_strings_are_refused_in_one_line(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "formulas.txt").write_text("x+1\nsin(x)\nx*x\n" * 4)
    options = ("--grammar", "expressions", "--width", 2, "--epochs", 1, "--device", "cpu")
    cli("train", "--data", tmp_path / "formulas.txt", *options, "--out", tmp_path / "ckpt")
    assert_clear_error(cli.run("sharpen", tmp_path / "ckpt"), 2, "sharpening is for images")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--steps", 0), "--steps 0 is out of range"),
        (("--steps", 10**9), "--steps"),
        (("--weight", 0), "--weight 0"),
        (("--weight", -1), "--weight -1"),
        (("--weight", 1e9), "--weight"),
        (("--seed", -1), "seed"),
        (("--resume", "--overwrite"), "exclude each other"),
    ],
)
def test_wrong_options(cli: Cli, original: Any, options: tuple[object, ...], said: str) -> None:
    before = tree(original.path)
    assert_clear_error(cli.run("sharpen", original.path, *options), 2, said)
    assert tree(original.path) == before


def test_other_data_are_refused(cli: Cli, trained: Any, tmp_path: Path) -> None:
    other = write_pictures(tmp_path / "other", 60, sizes=(16,))
    result = cli.run("sharpen", trained.path, "--steps", 5, "--data", other)
    assert_clear_error(result, 1, "is not the data that", "data of the training")


# -- every kind of model ----------------------------------------------------------------------------------------------

MODELS = {
    "gradient penalty": ("--reg", "gradient-penalty"),
    "spectral norm": ("--reg", "spectral-norm,encoder=true"),
    "both": ("--reg", "tikhonov", "--reg", "spectral-norm"),
    "vae": ("--model", "vae"),
    "cv-vae": ("--model", "cv-vae"),
    "wae": ("--model", "wae"),
    "l1": ("--reconstruction", "l1,start=0,length=0"),
    "mlp": ("--arch", "mlp"),
}


@pytest.mark.parametrize("kind", MODELS)
def test_every_model_can_be_sharpened(
    cli: Cli, original: Any, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raectl.model.regularizers.spectral_norm._POWER_ITERATIONS", 10)
    cli("train", "--data", original.data, *SMALL, "--epochs", 1, *MODELS[kind], "--out", tmp_path / "ckpt")
    sharpen(cli, tmp_path / "ckpt")
    cli("fit-density", tmp_path / "ckpt", "--components", 2)
    assert cli("sample", tmp_path / "ckpt", "-n", 4, "-o", tmp_path / "x.png", "--json").json["decoder"] == "sharp"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (11, 11), (64, 64), (512, 512), (96, 13), (8, 40)])
def test_every_size_can_be_sharpened(tmp_path: Path, height: int, width: int, channels: int) -> None:
    n = 5 if height > 64 else 20
    images = np.random.default_rng(0).integers(0, 256, (n, height, width, channels), np.uint8)
    size = f"{height}x{width}"
    config = raectl.Config(
        width=1, latent_dim=2, image_size=size, epochs=1, batch_size=4, device="cpu", precision="fp32"
    )
    np.save(tmp_path / "images.npy", images)
    raectl.train(config, tmp_path / "images.npy", tmp_path / "ckpt")
    checkpoint = raectl.sharpen(tmp_path / "ckpt", steps=4, device="cpu")
    assert checkpoint.decoder_name == "sharp"
    checkpoint.fit_density("gaussian")
    assert checkpoint.sample(2).shape == (2, height, width, channels)


@pytest.mark.parametrize("n", [3, 4, 12])
def test_few_images(tmp_path: Path, n: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (n, 8, 8, 1), np.uint8)
    np.save(tmp_path / "images.npy", images)
    config = raectl.Config(width=1, latent_dim=2, epochs=1, batch_size=4, device="cpu", precision="fp32")
    raectl.train(config, tmp_path / "images.npy", tmp_path / "ckpt")
    checkpoint = raectl.sharpen(tmp_path / "ckpt", steps=30, device="cpu")
    assert checkpoint.decoder_name == "sharp"


def test_an_untrained_checkpoint_is_refused(
    cli: Cli, original: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raectl.training.loop import Loop

    def stop(self: Loop, rows: np.ndarray) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "step", stop)
        with pytest.raises(KilledError):
            cli("train", "--data", original.data, *SMALL, "--out", tmp_path / "ckpt")
    assert_clear_error(cli.run("sharpen", tmp_path / "ckpt"), 1, "no whole epoch", "--resume")
    with pytest.raises(RaectlError):
        raectl.sharpen(tmp_path / "ckpt")
    with pytest.raises(UsageError):
        raectl.load(tmp_path / "ckpt", "cpu", "soft")
