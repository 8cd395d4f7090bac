"""Values of more than 8 bits: stored in 16, and given back in the source's own type and units."""

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from support.data import fill, noise, png

from raectl.data import DataOptions, Dataset, open_dataset
from raectl.data.images.units import Units, from_bytes, to_bytes
from raectl.modalities.base import modality_of


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAECTL_CACHE", str(tmp_path / "cache"))


def wide(dtype: str, *shape: int) -> np.ndarray:
    """Values of a type that fill its range, or 2^40 of it, or -1000 to 3000."""
    rng = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return rng.uniform(-1000, 3000, shape).astype(dtype)
    info = np.iinfo(dtype)
    low, high = max(info.min, -(2**40)), min(info.max, 2**40)
    return rng.integers(low, high, shape, dtype=info.dtype.newbyteorder("="), endpoint=True).astype(dtype)


def given_back(dataset: Dataset) -> np.ndarray:
    return Units.of(dataset.options).to_source(np.asarray(dataset.items))


def step(dataset: Dataset) -> float:
    """Of the source's values between two stored ones."""
    units = Units.of(dataset.options)
    return (units.range.high - units.range.low) / (2**units.bits - 1)


@pytest.mark.parametrize("dtype", ["uint16", "int16", ">i2", ">u4", "int64", "float16", "float32", "float64"])
def test_values_come_back_in_their_type_and_units(tmp_path: Path, dtype: str) -> None:
    values = wide(dtype, 5, 8, 8, 3)
    np.save(tmp_path / "a.npy", values)
    for source in (values, tmp_path / "a.npy"):
        dataset = open_dataset(source)
        assert dataset.items.dtype == np.uint16 and dataset.options.bits == 16
        found = given_back(dataset)
        assert found.dtype == values.dtype.newbyteorder("=")
        error = np.abs(found.astype(float) - values.astype(float)).max()
        assert error <= step(dataset) + 4 * np.finfo(found.dtype if found.dtype.kind == "f" else float).eps * 3000
        if np.dtype(dtype).itemsize == 2 and np.dtype(dtype).kind in "iu":
            assert np.array_equal(found, values), "integers of 16 bits lose nothing"


@pytest.mark.parametrize("values", [noise(4, 8, 8), noise(4, 8, 8) > 99, wide("int8", 4, 8, 8)])
def test_256_levels_are_stored_as_bytes(values: np.ndarray) -> None:
    dataset = open_dataset(values)
    assert dataset.items.dtype == np.uint8 and dataset.options.bits == 8
    if values.dtype == bool:
        assert np.array_equal(given_back(dataset)[..., 0], values * np.uint8(255))
    else:
        assert given_back(dataset).dtype == values.dtype
        assert np.array_equal(given_back(dataset)[..., 0], values)


def test_integers_are_as_wide_as_their_range() -> None:
    values = wide("uint16", 4, 8, 8) % 256
    assert np.array_equal(open_dataset(values).items[..., 0], values)
    assert open_dataset(values).items.dtype == np.uint8
    assert open_dataset(values, DataOptions(range="0:256")).items.dtype == np.uint16


def test_a_model_decides_in_how_many_bits_other_data_are_stored(tmp_path: Path) -> None:
    bytes_, deep = noise(4, 8, 8), noise(4, 8, 8).astype(np.uint16) * 257
    files = fill(tmp_path / "a", {f"{index}.png": png(item) for index, item in enumerate(bytes_)})
    for source in (bytes_, files):
        dataset = open_dataset(source, DataOptions(bits=16))
        assert np.array_equal(dataset.items[..., 0], deep)
        assert np.array_equal(given_back(dataset)[..., 0], bytes_), "in bytes, as they were"
    dataset = open_dataset(deep, DataOptions(bits=8))
    assert np.array_equal(dataset.items[..., 0], bytes_)
    assert np.array_equal(given_back(dataset)[..., 0], deep)


def test_bytes_among_wide_files_are_stored_in_16_bits(tmp_path: Path) -> None:
    grey = noise(2, 8, 8)
    files = {"0.png": png(grey[0]), "1.png": imagecodecs.png_encode(grey[1].astype(np.uint16) * 257)}
    dataset = open_dataset(fill(tmp_path / "a", files))
    assert np.array_equal(dataset.items[..., 0], grey.astype(np.uint16) * 257)
    assert (dataset.options.bits, dataset.options.dtype) == (16, "uint16")
    files["1.png"] = png(grey[1])
    assert np.array_equal(open_dataset(fill(tmp_path / "b", files)).items[..., 0], grey)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_resized_is_as_near_as_bytes_are(tmp_path: Path, fit: str, channels: int) -> None:
    colours = noise(2, 40, 24, channels) // 2 + 64  # bytes are clipped between two passes
    options = {"image_size": 16, "fit": fit, "background": "#204060"}
    for scale in (1, 257):
        rows = np.squeeze(colours * np.uint16(scale), -1) if channels == 1 else colours * np.uint16(scale)
        encode = imagecodecs.png_encode
        fill(tmp_path / str(scale), {f"{i}.png": encode(rows[i].astype("u1" if scale == 1 else "u2")) for i in (0, 1)})
    expected = open_dataset(tmp_path / "1", DataOptions(**options)).items
    found = open_dataset(tmp_path / "257", DataOptions(**options)).items
    assert found.dtype == np.uint16
    assert np.abs(found / 257 - expected).max() <= 1.5, "an interim rounding of bytes"
    assert np.array_equal(open_dataset(colours * np.uint16(257), DataOptions(**options)).items, found)
    assert np.array_equal(open_dataset(colours * np.uint16(257), DataOptions(**options, bits=8)).items, expected)


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("background", ["white", "#204060"])
def test_alpha_of_16_bits_is_composited(tmp_path: Path, channels: int, background: str) -> None:
    values = noise(16, 16, channels).astype(np.uint16) * 257
    values[0, 0, :-1] = 65535
    content = imagecodecs.png_encode(values)
    options = DataOptions(background=background, channels=3)
    (item,) = open_dataset(fill(tmp_path / "a", {"a.png": content}), options).items
    behind = np.array({"white": (255, 255, 255), "#204060": (32, 64, 96)}[background]) * 257
    alpha = values[..., -1:] / 65535
    expected = np.broadcast_to(values[..., :-1] * alpha, (16, 16, 3)) + behind * (1 - alpha)
    assert np.abs(item - expected).max() <= 0.5 + 1e-6
    if channels == 4:
        again = open_dataset(values[None], DataOptions(background=background, alpha=True, image_size=16)).items
        assert np.array_equal(again[0], item)


@pytest.mark.parametrize("extra", ["unassalpha", "assocalpha"])
@pytest.mark.parametrize("top", [4095, 65535])
def test_alpha_of_12_bits_in_16(tmp_path: Path, extra: str, top: int) -> None:
    """Opaque at the greatest value of its bits, and multiplied into the colours or not: the same picture."""
    colours = noise(16, 16, 3) / 255
    alpha = np.linspace(0, 1, 256).reshape(16, 16, 1)
    shown = colours * alpha if extra == "assocalpha" else colours
    values = np.rint(np.concatenate([shown, alpha], axis=2) * top).astype(np.uint16)
    values[15, 15] = top
    colours[15, 15] = 1
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", extrasamples=[extra])
    (item,) = open_dataset(fill(tmp_path / "a", {"a.tif": (tmp_path / "a.tif").read_bytes()})).items
    assert np.abs(item / 65535 - (colours * alpha + 1 - alpha)).max() < 4 / 4095


def test_the_largest_integers_do_not_overflow() -> None:
    values = np.array([0, 2**63, 2**64 - 1] * 64, np.uint64).reshape(3, 8, 8)
    found = given_back(open_dataset(values))[..., 0]
    assert found.dtype == np.uint64 and found.max() > 2**63 + 2**62


def test_a_wide_tiff_is_turned_and_inverted(tmp_path: Path) -> None:
    values = wide("uint16", 12, 12)
    values[0, :2] = 0, 65535
    content = {"photometric": "miniswhite", "extratags": [(274, "H", 1, 6, True)]}
    tifffile.imwrite(tmp_path / "a.tif", values, **content)
    (item,) = open_dataset(fill(tmp_path / "b", {"a.tif": (tmp_path / "a.tif").read_bytes()})).items
    assert np.array_equal(item[..., 0], 65535 - np.rot90(values, -1))


def test_grey_for_a_model_of_colour_and_colour_for_one_of_grey() -> None:
    values = wide("uint16", 3, 8, 8, 3)
    values[0, 0, 0], values[0, 0, 1] = 0, 65535
    grey = open_dataset(values, DataOptions(channels=1)).items.astype(int)[..., 0]
    assert np.abs(grey - values @ [0.299, 0.587, 0.114]).max() < 1
    assert np.array_equal(open_dataset(values[..., 0], DataOptions(channels=3)).items[..., 2], values[..., 0])


# -- tensors and files -------------------------------------------------------------------------------------------------


def test_a_tensor_has_every_value_of_16_bits_over_65535() -> None:
    images = modality_of("images", DataOptions(bits=16, dtype="uint16", range="integers 0:65535"))
    items = np.arange(2**16, dtype=np.uint16).reshape(1, 256, 256, 1)
    x = images.to_tensor(torch.from_numpy(items))
    assert torch.equal(x.flatten(), torch.arange(65536).float() / torch.tensor(65535.0))
    assert np.array_equal(images.to_items(x), items) and images.to_items(x).dtype == np.uint16
    three = images.to_tensor(torch.from_numpy(wide("uint16", 4, 8, 8, 3)))
    assert three.is_contiguous(memory_format=torch.channels_last)


def test_bytes_to_look_at() -> None:
    values = np.arange(2**16, dtype=np.uint16)
    assert np.array_equal(to_bytes(values), np.rint(values / 257))
    assert np.array_equal(to_bytes(from_bytes(np.arange(256, dtype=np.uint8), 16)), np.arange(256))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_arrays_are_written_in_the_sources_units(tmp_path: Path, channels: int, dtype: str) -> None:
    values = noise(4, 8, 8, channels) if dtype == "uint8" else wide(dtype, 4, 8, 8, channels)
    ranges: dict[str, Any] = {"int16": "integers -32768:32767", "float32": "floats -1000:3000", "uint8": None}
    options = DataOptions(bits=8 if dtype == "uint8" else 16, dtype=dtype, range=ranges[dtype])
    images, items = modality_of("images", options), Units.of(options).to_stored(values)
    for suffix in (".npz", ".npy", ".tif", ".TIFF"):
        images.writer.write(tmp_path / f"a{suffix}", iter([items[:3], items[3:]]), 4)
    (tmp_path / "b.tif").write_bytes((tmp_path / "a.tif").read_bytes())
    found = [np.load(tmp_path / "a.npz")["images"], np.load(tmp_path / "a.npy"), tifffile.imread(tmp_path / "a.TIFF")]
    for array in found:
        assert array.dtype == dtype
        assert np.abs(array.reshape(values.shape).astype(float) - values).max() <= 4000 / 65535
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert len(file.pages) == 4 and {page.samplesperpixel for page in file.pages} == {channels}
    images.writer.write_pairs(tmp_path / "pairs.npz", items, items[::-1])
    assert np.array_equal(np.load(tmp_path / "pairs.npz")["originals"], found[0])
    images.writer.write_walks(tmp_path / "walks.npy", items[None])
    assert np.array_equal(np.load(tmp_path / "walks.npy")[0], found[0])


def test_pictures_show_bytes(tmp_path: Path) -> None:
    images = modality_of("images", DataOptions(bits=16, dtype="uint16", range="integers 0:65535"))
    items = wide("uint16", 4, 64, 64, 1)
    images.writer.write(tmp_path / "a", [items], 4)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a" / "000001.png")), np.rint(items[1, ..., 0] / 257))
    for name, write in (("a.png", images.writer.write), ("b.gif", images.writer.write)):
        write(tmp_path / name, [items], 4)
    images.writer.write_picture(tmp_path / "c", (items, items), items)
    images.writer.write_rows(tmp_path / "d.png", ["one", "two"], [items, items])
    assert images.with_heat(items, np.zeros((4, 64, 64)), 1.0).max() <= 255
