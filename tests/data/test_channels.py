"""Images of 1 to 64 channels: where these are in an array, what becomes of them, and what pictures show."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from support.data import fill, noise, png, zipped

from raectl.data import DataOptions, open_dataset
from raectl.errors import RaectlError, UsageError
from raectl.modalities.base import modality_of


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAECTL_CACHE", str(tmp_path / "cache"))


def tiff(values: np.ndarray, **more: Any) -> bytes:
    """An image (H, W, C) as a TIFF of C samples a pixel."""
    file = io.BytesIO()
    if values.shape[-1] == 1:
        tifffile.imwrite(file, values[..., 0])
    else:
        tifffile.imwrite(file, values, **{"photometric": "minisblack", "planarconfig": "contig", **more})
    return file.getvalue()


@pytest.mark.parametrize(
    ("shape", "channels", "said"),
    [
        ((12, 20, 24), 1, ""),
        ((12, 20, 24, 1), 1, ""),
        ((12, 3, 20, 24), 3, ""),
        ((12, 20, 24, 4), 4, "if the fourth is alpha"),
        ((12, 20, 24, 2), 2, "the last axis was taken for that of 2 channels"),
        ((12, 20, 24, 8), 8, "the last axis"),
        ((12, 8, 20, 24), 8, "the second axis was taken for that of 8 channels"),
        ((12, 19, 20, 24), 19, "the second axis"),
        ((2, 70, 80, 64), 64, "the last axis"),
        ((2, 64, 70, 80), 64, "the second axis"),
        ((2, 64, 32, 32), 64, "the second axis"),
    ],
)
def test_which_axis_has_the_channels(shape: tuple[int, ...], channels: int, said: str) -> None:
    dataset = open_dataset(noise(*shape))
    sides = [side for side in shape[1:] if side in (20, 24, 32, 70, 80)]
    assert dataset.items.shape == (shape[0], *sides, channels)
    assert dataset.options.channels == channels
    assert any(said in note for note in dataset.notes) if said else not any("axis" in note for note in dataset.notes)


@pytest.mark.parametrize("shape", [(12, 8, 8, 8), (2, 70, 80, 65), (2, 20, 24, 20), (2, 32, 32, 65)])
def test_a_shape_that_does_not_say_where_the_channels_are_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(RaectlError, match=r"has shape|channels, more than 64") as caught:
        open_dataset(noise(*shape))
    assert caught.value.hint is not None and "\n" not in caught.value.message


@pytest.mark.parametrize("channels", [2, 4, 5, 8, 64])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_bands_of_files_equal_those_of_the_array(tmp_path: Path, channels: int, dtype: str, planar: str) -> None:
    values = noise(3, 16, 16, channels)
    values = values if dtype == "uint8" else (values * 200.0 - (1000 if dtype == "float32" else 0)).astype(dtype)
    np.save(tmp_path / "a.npy", values)
    rows = np.moveaxis(values, 3, 1) if planar == "separate" else values
    files = {f"{i}.tif": tiff(image, planarconfig=planar) for i, image in enumerate(rows)}
    sources = [values, tmp_path / "a.npy", np.moveaxis(values, 3, 1), fill(tmp_path / "a", files)]
    sources.append(zipped(tmp_path / "a.zip", files))
    opened = [open_dataset(source) for source in sources]
    for dataset in opened:
        assert dataset.items.shape == (3, 16, 16, channels)
        assert np.array_equal(dataset.items, opened[0].items)
        assert dataset.options == opened[0].options
        assert dataset.options.bits == (8 if dtype == "uint8" else 16)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_each_channel_is_fitted_as_a_grey_image(fit: str, dtype: str) -> None:
    values = noise(2, 40, 24, 5) if dtype == "uint8" else noise(2, 40, 24, 5).astype(np.uint16) * 257
    values[0, 0, 0], values[0, 0, 1] = 0, np.iinfo(dtype).max
    options = {"image_size": 16, "fit": fit, "background": "#204060", "range": None if dtype == "uint8" else "0:65535"}
    found = open_dataset(values, DataOptions(**options)).items
    for channel in range(5):
        assert np.array_equal(
            found[..., channel], open_dataset(values[..., channel], DataOptions(**options)).items[..., 0]
        )
    if fit == "pad":  # the luma of the background
        assert set(found[:, :, 0].ravel().tolist()) == {58 * (1 if dtype == "uint8" else 257)}


def test_a_channel_that_fills_hardly_any_of_the_range_is_said() -> None:
    values = np.random.default_rng(0).uniform(0, 1, (5, 16, 16, 4)).astype(np.float32)
    assert not any("fill less" in note for note in open_dataset(values).notes)
    values[..., 2] *= 0.01
    (note,) = [note for note in open_dataset(values).notes if "fill less than 5%" in note]
    assert "3 (1.0%)" in note


# -- other channels than a model's -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("found", "wanted"), [(4, 3), (4, 1), (3, 4), (1, 8), (8, 2), (2, 1)])
def test_other_numbers_of_channels_than_a_models_are_refused(tmp_path: Path, found: int, wanted: int) -> None:
    values = noise(3, 16, 16, found)
    with pytest.raises(RaectlError, match=rf"has {found} channels, and the model takes {wanted}"):
        open_dataset(values, DataOptions(channels=wanted))
    files = {f"{i}.tif": tiff(image) for i, image in enumerate(values)}
    with pytest.raises(RaectlError, match=rf"{found} channels, and the model takes {wanted}") as caught:
        open_dataset(fill(tmp_path / "a", files), DataOptions(channels=wanted))
    assert "one number of channels" in str(caught.value.hint)


def test_a_file_of_other_channels_among_many_is_bad(tmp_path: Path) -> None:
    bands = {f"{i}.tif": tiff(image) for i, image in enumerate(noise(9, 16, 16, 8))}
    dataset = open_dataset(fill(tmp_path / "a", {**bands, "x.png": png(noise(16, 16, 3))}))
    assert dataset.items.shape == (9, 16, 16, 8)
    assert dataset.skipped == (("x.png", "3 channels, and most have 8"),)
    assert dataset.found["bands"] == {"8": 9}
    colour = {f"{i}.png": png(image) for i, image in enumerate(noise(9, 16, 16, 3))}
    dataset = open_dataset(fill(tmp_path / "b", {**colour, "x.tif": bands["0.tif"], "y.png": png(noise(16, 16))}))
    assert dataset.items.shape == (10, 16, 16, 3)
    assert dataset.skipped == (("x.tif", "8 channels, and most have 1 or 3"),)


# -- what is shown -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "bands", "shown"),
    [
        (1, None, [0]),
        (2, None, [0]),
        (3, None, [0, 1, 2]),
        (8, None, [0, 1, 2]),
        (3, "3,2,1", [2, 1, 0]),
        (8, "8,1,4", [7, 0, 3]),
        (8, " 4 ", [3]),
        (2, "2,1,2", [1, 0, 1]),
    ],
)
def test_pictures_show_three_channels_or_one(
    tmp_path: Path, channels: int, bands: str | None, shown: list[int]
) -> None:
    items = noise(4, 64, 64, channels)
    images = modality_of("images", open_dataset(items, DataOptions(bands=bands)).options)
    images.writer.write(tmp_path / "a", [items], 4)
    pixels = np.asarray(Image.open(tmp_path / "a" / "000002.png"))
    assert np.array_equal(pixels.reshape(64, 64, -1), items[2][..., shown])
    assert np.array_equal(images.shown(items), items[..., shown])


def test_bands_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--bands 9,2,1: .* has 8 channels"):
        open_dataset(noise(4, 16, 16, 8), DataOptions(bands="9,2,1"))
    (tmp_path / "a.smi").write_text("CC\nCCC\n")
    with pytest.raises(UsageError, match="--bands has no effect"):
        open_dataset(tmp_path / "a.smi", DataOptions(bands="1"))


def test_bands_are_no_part_of_what_is_cached(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", noise(4, 20, 160, 8))
    first = open_dataset(tmp_path / "a.npy", DataOptions(bands="3,2,1"))
    assert open_dataset(tmp_path / "a.npy").options.bands is None
    assert first.options.bands == "3,2,1"
    assert len([*(tmp_path / "cache" / "packed").iterdir()]) == 1
