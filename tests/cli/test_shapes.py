"""Images that are not square, from their files to samples, measures and pictures."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.cli import Cli, assert_clear_error, assert_same_run

import raectl

H, W = 96, 64
NET = ("--width", 2, "--latent-dim", 3, "--batch-size", 16, "--device", "cpu", "--precision", "fp32",
       "--reg", "tikhonov", "--reg", "gradient-penalty", "--augment", "flip,shift,turn,colour")  # fmt: skip


def photographs(n: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Soft greys: (n, height, width) uint8."""
    small = np.random.default_rng(seed).integers(0, 256, (n, 5, 4), np.uint8)
    size = (width, height)
    return np.stack([np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)) for image in small])


def write(folder: Path, images: np.ndarray) -> Path:
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images as a folder and as an array, others of another size, and a checkpoint with a density."""
    home = tmp_path_factory.mktemp("shapes")
    images = photographs(36, H, W)
    write(home / "images", images)
    np.save(home / "images.npy", images)
    write(home / "others", photographs(12, 50, 90, seed=1))
    config = raectl.Config(
        reg=["tikhonov", "gradient-penalty"], width=2, latent_dim=3, batch_size=16, device="cpu", precision="fp32",
        augment="flip,shift,turn,colour", epochs=2,
    )  # fmt: skip
    raectl.train(config, home / "images", home / "ckpt").fit_density("gmm", components=2)
    return home


def config_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "config.json").read_text())
    return found


def test_a_folder_and_an_array_train_the_same_model(cli: Cli, home: Path, tmp_path: Path) -> None:
    cli("train", home / "images.npy", *NET, "--epochs", 2, "--image-size", f"{H}x{W}", "--out", tmp_path / "ckpt")
    ours, theirs = config_of(tmp_path / "ckpt"), config_of(home / "ckpt")
    assert ours["config"] == theirs["config"] and ours["config"]["image_size"] == f"{H}x{W}"
    assert ours["data"]["fingerprint"] == theirs["data"]["fingerprint"] and ours["data"]["shape"] == [H, W, 1]
    assert_same_run(tmp_path / "ckpt", home / "ckpt")
    assert f"of shape {H} x {W} x 1" in (home / "ckpt" / "README.md").read_text()


def test_one_epoch_resumed_to_two_are_two(cli: Cli, home: Path, tmp_path: Path) -> None:
    cli("train", home / "images", *NET, "--epochs", 1, "--out", tmp_path / "ckpt")
    cli("train", "--resume", "--out", tmp_path / "ckpt", "--epochs", 2, "--image-size", f"{H}x{W}")
    assert_same_run(tmp_path / "ckpt", home / "ckpt")
    result = cli.run("train", "--resume", "--out", tmp_path / "ckpt", "--epochs", 3, "--image-size", f"{W}x{H}")
    assert_clear_error(result, 2, "--image-size differs from the '96x64'")


def test_samples_have_the_shape_and_fewer_are_the_first_of_more(cli: Cli, home: Path, tmp_path: Path) -> None:
    for n in (3, 20):
        cli("sample", home / "ckpt", "-n", n, "-o", tmp_path / f"{n}.npz", "--seed", 4, "--batch-size", 7)
    few, many = (np.load(tmp_path / f"{n}.npz")["images"] for n in (3, 20))
    assert many.shape == (20, H, W, 1) and np.array_equal(few, many[:3])
    cli("sample", home / "ckpt", "-n", 3, "-o", tmp_path / "3.png", "--seed", 4)
    with Image.open(tmp_path / "3.png") as picture:
        pixels = np.asarray(picture)
    assert np.array_equal(pixels[4 : 4 + H, 4 : 4 + W], few[0, ..., 0])


def test_images_of_another_size_are_brought_to_the_models_shape(cli: Cli, home: Path, tmp_path: Path) -> None:
    result = cli("reconstruct", home / "ckpt", "--data", home / "others", "-o", tmp_path / "pairs.npz")
    assert "images of 50x90 (height x width) became 96 x 64 by crop, which cuts off 63% of each" in result.err
    arrays = np.load(tmp_path / "pairs.npz")
    assert arrays["images"].shape == arrays["originals"].shape == (12, H, W, 1)
    middle = Image.open(home / "others" / "00.png").crop((28, 0, 28 + 33, 50))  # 50 x 64 / 96 = 33 columns
    expected = np.asarray(middle.resize((W, H), Image.Resampling.LANCZOS)).astype(int)
    assert abs(arrays["originals"][0, ..., 0] - expected)[:, 6:-6].max() <= 1, "edges see the pixels beside the crop"
    checkpoint = raectl.load(home / "ckpt", "cpu")
    assert np.array_equal(checkpoint.reconstruct(arrays["originals"]), arrays["images"])


def test_measures_and_scores(cli: Cli, home: Path, tmp_path: Path) -> None:
    ckpt = shutil.copytree(home / "ckpt", tmp_path / "ckpt")
    found = cli("evaluate", ckpt, "--data", home / "others", "--features", "pixels", "--json").json
    text = json.dumps(found)
    assert all(name in text for name in ("kernel", "sharpness", "ssim", "psnr", "copied"))
    out = tmp_path / "scores.csv"
    cli("score", ckpt, "--data", home / "others", "-o", out, "--picture", tmp_path / "odd.png", "--heatmaps",
        tmp_path / "heat")  # fmt: skip
    with out.open() as file:
        assert len(list(csv.reader(file))) == 13
    for path in (tmp_path / "heat").iterdir():
        with Image.open(path) as picture:
            assert picture.size == (W, H)
    with Image.open(tmp_path / "odd.png") as picture:
        assert picture.height == 6 * (H + 4) + 4


def test_walks_and_neighbours(cli: Cli, home: Path, tmp_path: Path) -> None:
    cli("interpolate", home / "ckpt", "--data", home / "others", "--pairs", 3, "-o", tmp_path / "walks.npz")
    assert np.load(tmp_path / "walks.npz")["images"].shape[2:] == (H, W, 1)
    cli("interpolate", home / "ckpt", "--data", home / "others", "--pairs", 3, "-o", tmp_path / "walks.gif")
    cli("sample", home / "ckpt", "-n", 4, "-o", tmp_path / "samples.npz")
    cli("nearest", home / "ckpt", "--samples", tmp_path / "samples.npz", "-o", tmp_path / "nearest.png")
    with Image.open(tmp_path / "nearest.png") as picture:
        assert picture.height == 7 * (H + 4) + 4


@pytest.mark.parametrize(("size", "shape"), [("8x8", [8, 8, 1]), ("40x9", [40, 9, 1]), ("17", [17, 17, 1])])
def test_a_size_that_is_asked_for(cli: Cli, home: Path, size: str, shape: list[int]) -> None:
    found = cli("train", home / "images", "--image-size", size, "--dry-run").json
    assert found["data"]["shape"] == shape
    assert raectl.Config.from_dict(found["config"]).to_dict() == found["config"]
    assert cli("check", home / "images", "--image-size", size, "--json").json["shape"] == shape


@pytest.mark.parametrize("size", ["64x", "axb", "0x5", "600x64", "7"])
def test_what_is_no_size(cli: Cli, home: Path, tmp_path: Path, size: str) -> None:
    for command in (("train", "--out", tmp_path / "no"), ("check",)):
        result = cli.run(*command, home / "images", "--image-size", size)
        assert_clear_error(result, 2, "--image-size", size)
    assert not (tmp_path / "no").exists()
