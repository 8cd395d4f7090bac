"""The whole way of images of other types and channels than bytes in grey and colour, from an array and from files."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from support.cli import Cli, assert_clear_error, assert_same_run
from support.data import fill, noise

import raectl
from raectl.storage.arrays import file_digest

N = 30
SMALL = ("--width", "4", "--latent-dim", "4", "--batch-size", "10", "--device", "cpu", "--precision", "fp32")


def blobs(channels: int, low: float, high: float, dtype: str, side: int = 32) -> np.ndarray:
    """(30, side, side, channels) smooth images from `low` to `high`."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side
    waves = rng.uniform(1, 4, (4, N, 1, 1, channels))
    values = np.sin(waves[0] * x[..., None] + 6 * waves[1]) * np.cos(waves[2] * y[..., None] + 6 * waves[3])
    values = (values - values.min()) / (values.max() - values.min())
    return (low + values * (high - low)).astype(dtype)


KINDS: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "8 bands of 16 bits": (blobs(8, 0, 65535, "uint16"), {}),
    "floats of -1000 to 3000": (blobs(1, -1000, 3000, "float32"), {}),
    "colour and infrared": (blobs(4, 0, 255, "uint8"), {"photometric": "rgb", "extrasamples": [0]}),
    "12 bits": (blobs(1, 0, 4095, "uint16"), {"compression": "zlib"}),
}


def written(folder: Path, values: np.ndarray, **options: Any) -> Path:
    """A folder of TIFFs, one an image."""
    folder.mkdir()
    for index, image in enumerate(values):
        plain = image[..., 0] if image.shape[-1] == 1 else image
        more = {"photometric": "minisblack"} | ({} if plain.ndim == 2 else {"planarconfig": "contig"}) | options
        tifffile.imwrite(folder / f"{index:02}.tif", plain, **more)
    return folder


def as_source(form: str, home: Path, values: np.ndarray, options: dict[str, Any]) -> tuple[Path, tuple[str, ...]]:
    """An array, a folder of a file an image, a file of all as pages, or a folder of two of these; and options."""
    if form == "array":
        np.save(home / "x.npy", values)
        return home / "x.npy", ()
    if form == "folder":
        return written(home / "x", values, **options), ()
    if form == "stack":
        tifffile.imwrite(home / "x.tif", values[..., 0], photometric="minisblack", **options)
        return home / "x.tif", ()
    for index, part in enumerate(np.split(values[..., 0], 2)):
        (home / "x").mkdir(exist_ok=True)
        tifffile.imwrite(home / "x" / f"{index}.tif", part, photometric="minisblack", **options)
    return home / "x", ("--frames", "all")


def opened(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


@pytest.mark.parametrize(
    ("kind", "form"), [*itertools.product(KINDS, ("array", "folder")), ("12 bits", "stack"), ("12 bits", "stacks")]
)
def test_the_whole_way(cli: Cli, tmp_path: Path, kind: str, form: str) -> None:
    values, options = KINDS[kind]
    channels = values.shape[-1]
    source, frames = as_source(form, tmp_path, values, options)
    ckpt, bands = tmp_path / "ckpt", ("--bands", "3,2,1") if channels > 3 else ()
    checked = json.loads(cli("check", source, *frames, "--json").out)
    assert checked["shape"] == [32, 32, channels]
    assert checked["levels"][1] == (255 if values.dtype == np.uint8 else 65535)
    cli("train", source, *frames, "--epochs", "2", *SMALL, "--reg", "tikhonov", *bands, "--out", ckpt)
    cli("fit-density", ckpt, "--components", "2")
    cli("sample", ckpt, "-n", "5", "-o", tmp_path / "s.npz", "--nearest", tmp_path / "near.png")
    samples = np.load(tmp_path / "s.npz")["images"]
    assert samples.dtype == values.dtype and samples.shape == (5, 32, 32, channels)
    cli("sample", ckpt, "-n", "3", "-o", tmp_path / "s.tif")
    assert np.array_equal(tifffile.imread(tmp_path / "s.tif").reshape(3, 32, 32, channels), samples[:3]), "a prefix"
    cli("sample", ckpt, "-n", "3", "-o", tmp_path / "s.npy")
    assert np.array_equal(np.load(tmp_path / "s.npy"), samples[:3])
    cli("sample", ckpt, "-n", "4", "-o", tmp_path / "grid.png")
    cli("reconstruct", ckpt, "--data", source, "-o", tmp_path / "pairs.npz")
    pairs = np.load(tmp_path / "pairs.npz")
    assert pairs["images"].dtype == pairs["originals"].dtype == values.dtype
    width = 0 if values.dtype == np.uint8 else float(values.max()) - float(values.min())
    assert np.abs(pairs["originals"].astype(float) - values).max() <= width / 65535
    cli("reconstruct", ckpt, "--data", source, "-o", tmp_path / "pairs.png")
    features = ("--features", "pixels") if channels == 1 else ()  # thousands of pixels' distances take half a minute
    evaluated = json.loads(cli("evaluate", ckpt, "--data", source, *features, "--json").out)
    assert {"sharpness", "mse", "kernel"} <= {line["metric"] for line in evaluated["numbers"]}
    cli("score", ckpt, "-o", tmp_path / "s.csv", "--picture", tmp_path / "odd.png", "--heatmaps", tmp_path / "heat")
    first = {"array": "000000.png", "folder": "00.png", "stack": "x.tif#01.png", "stacks": "0.tif#01.png"}[form]
    assert opened(tmp_path / "heat" / first).shape == (32, 32, 3)
    cli("nearest", ckpt, "--samples", tmp_path / "s.npz", "-o", tmp_path / "near.png")
    cli("interpolate", ckpt, "--data", source, "-o", tmp_path / "walks.npz", "--pairs", "2")


def test_pictures_show_the_bands_of_the_training_or_others(cli: Cli, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", blobs(8, 0, 255, "uint8"))
    ckpt = tmp_path / "ckpt"
    cli("train", tmp_path / "x.npy", "--epochs", "1", *SMALL, "--reg", "none", "--bands", "5", "--out", ckpt)
    assert raectl.load(ckpt).data.options.bands == "5"
    reconstruct = ("reconstruct", ckpt, "--data", tmp_path / "x.npy", "-n", "1", "-o")
    cli(*reconstruct, tmp_path / "a")
    cli(*reconstruct, tmp_path / "b", "--bands", "7,8,5")
    grey, colour = (opened(next((tmp_path / name).iterdir())) for name in "ab")
    assert grey.ndim == 2 and np.array_equal(colour[..., 2], grey)
    assert_clear_error(cli.run(*reconstruct, tmp_path / "c", "--bands", "9"), 2, "--bands 9", "has 8 channels")
    assert_clear_error(cli.run(*reconstruct, tmp_path / "c", "--bands", "1,2"), 2, "--bands", "three")
    assert_clear_error(cli.run("train", tmp_path / "x.npy", "--bands", "9", "--out", tmp_path / "d"), 2, "--bands 9")
    cli("evaluate", ckpt, "--data", tmp_path / "x.npy", "--bands", "2,3,4", "-n", "20")
    for command in (reconstruct, ("sample", ckpt, "-o"), ("interpolate", ckpt, "--data", tmp_path / "x.npy", "-o")):
        said = "--bands has no effect on", "all channels"
        assert_clear_error(cli.run(*command, tmp_path / "c.npz", "--bands", "5"), 2, *said)
    assert_clear_error(cli.run("score", ckpt, "--bands", "5"), 2, "--bands has no effect without a picture")
    assert not (tmp_path / "c.npz").exists()


def test_a_run_on_16_bits_is_resumed_to_the_same_bits(cli: Cli, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", blobs(5, -1000, 3000, "float32", side=16))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train = ("train", tmp_path / "x.npy", *SMALL, "--reg", "tikhonov", "--augment", "flip,shift,colour")
    cli(*train, "--epochs", "3", "--out", whole)
    cli(*train, "--epochs", "1", "--out", parts)
    cli("train", "--resume", "--epochs", "3", "--out", parts)
    assert file_digest(whole / "model.safetensors") == file_digest(parts / "model.safetensors")
    assert_same_run(whole, parts)
    checkpoint = raectl.load(whole, "cpu")
    checkpoint.fit_density("gaussian")
    assert np.array_equal(checkpoint.sample(70, seed=3)[:5], checkpoint.sample(5, seed=3))
    assert not np.array_equal(checkpoint.sample(5, seed=4), checkpoint.sample(5, seed=3))


def test_python_gives_items_as_they_came(tmp_path: Path) -> None:
    values = blobs(1, -1000, 3000, "float32", side=16)[..., 0]
    config = raectl.Config(width=4, latent_dim=4, epochs=1, device="cpu", precision="fp32")
    checkpoint = raectl.train(config, values, tmp_path / "ckpt")
    checkpoint.fit_density("gaussian")
    assert checkpoint.sample(3).dtype == np.uint16
    stored = np.array(checkpoint.open_data().items)
    found = checkpoint.reconstruct(values)
    assert found.dtype == np.float32 and found.shape == values.shape
    assert np.array_equal(checkpoint.modality.to_source(checkpoint.reconstruct(stored))[..., 0], found)
    in_bytes = noise(3, 16, 16)
    assert checkpoint.reconstruct(in_bytes).dtype == np.uint8
    assert checkpoint.score(stored).score.shape == (N,)
    checkpoint.write(checkpoint.sample(3), tmp_path / "a.npy")
    assert np.load(tmp_path / "a.npy").dtype == np.float32
    assert np.array_equal(
        checkpoint.encode(stored), checkpoint.encode(stored.transpose(0, 3, 1, 2) / np.float32(65535))
    )


def test_cross_fit_scores_an_array_in_memory(tmp_path: Path) -> None:
    from raectl.detection.scoring import Scoring

    config = raectl.Config(width=2, latent_dim=2, epochs=1, device="cpu", precision="fp32")
    checkpoint = raectl.train(config, blobs(1, 0.2, 0.4, "float32", side=16), tmp_path / "ckpt")
    checkpoint.fit_density("gaussian")
    assert Scoring(checkpoint, checkpoint.open_data(), cross_fit=2).run().n == N


def test_weights_of_16_bits_go_on_with_bytes(cli: Cli, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", blobs(1, 0, 65535, "uint16", side=16))
    np.save(tmp_path / "y.npy", blobs(1, 0, 255, "uint8", side=16))
    cli("train", tmp_path / "x.npy", "--epochs", "1", *SMALL, "--reg", "none", "--out", tmp_path / "a")
    cli("train", tmp_path / "y.npy", "--epochs", "1", "--from", tmp_path / "a", "--out", tmp_path / "b")
    assert raectl.load(tmp_path / "b").data.options.bits == 16


def test_other_channels_than_a_models_are_refused(cli: Cli, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", noise(20, 16, 16, 3))
    np.save(tmp_path / "y.npy", noise(20, 16, 16, 4))
    cli("train", tmp_path / "x.npy", "--epochs", "1", *SMALL, "--reg", "none", "--out", tmp_path / "a")
    out = tmp_path / "o.png"
    result = cli.run("reconstruct", tmp_path / "a", "--data", tmp_path / "y.npy", "-o", out)
    assert_clear_error(result, 1, "has 4 channels, and the model takes 3")
    files = fill(tmp_path / "z", {})
    for index in range(3):
        tifffile.imwrite(files / f"{index}.tif", noise(16, 16, 8), photometric="minisblack", planarconfig="contig")
    result = cli.run("reconstruct", tmp_path / "a", "--data", files, "-o", out)
    assert_clear_error(result, 1, "8 channels, and the model takes 3")
