"""Alpha: the value that is opaque, and what is not finite in it or hidden by it."""

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from support.data import fill

from raectl.data import DataOptions, open_dataset
from raectl.errors import RaectlError

ALPHA = DataOptions(alpha=True, bits=8)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAECTL_CACHE", str(tmp_path / "cache"))


def tiff(values: np.ndarray, extra: str = "unassalpha") -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, photometric="rgb", extrasamples=[extra])
    return file.getvalue()


def floats() -> np.ndarray:
    """(3, 8, 8, 4), opaque but for the left half of the first."""
    values = np.random.default_rng(0).random((3, 8, 8, 4)).astype(np.float32)
    values[..., 3] = 1
    values[0, :, :4, 3] = 0
    return values


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("extra", ["unassalpha", "assocalpha"])
def test_alpha_that_is_not_finite_is_refused(tmp_path: Path, value: float, extra: str) -> None:
    values = floats()
    values[1, 2, 5:7, 3] = value
    said = "values of alpha are NaN or infinite, the first"
    with pytest.raises(RaectlError, match=rf"2 of 192 {said} at index \(1, 2, 5\)"):
        open_dataset(values, ALPHA)
    files = {f"{index}.tif": tiff(image, extra) for index, image in enumerate(values)}
    dataset = open_dataset(fill(tmp_path / "a", files), DataOptions(bits=8))
    assert dataset.skipped == (("1.tif", f"2 of 64 {said} in row 2, column 5"),)


def test_a_colour_that_is_not_finite_is_found_beside_alpha() -> None:
    values = floats()
    values[0, 0, 4, 1] = np.nan  # the first that is seen
    with pytest.raises(RaectlError, match=r"1 of 576 values are NaN or infinite, the first at index \(0, 0, 4, 1\)"):
        open_dataset(values, ALPHA)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("extra", ["unassalpha", "assocalpha"])
def test_what_is_hidden_may_be_anything_and_becomes_background(tmp_path: Path, bits: int, extra: str) -> None:
    values = floats()
    values[0, :, 0:3, :3] = np.nan, np.inf, -np.inf
    values[2, ..., 3], values[2, ..., :3] = 0, np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = open_dataset(values, DataOptions(alpha=True, bits=bits))
        files = {f"{index}.tif": tiff(image, extra) for index, image in enumerate(values)}
        same = open_dataset(fill(tmp_path / "a", files), DataOptions(bits=bits))
    assert found.options.range == "floats 0:1" and not same.skipped
    for items in (found.items, same.items):
        assert (items[0, :, :4] == 2**bits - 1).all() and (items[2] == 2**bits - 1).all()
        assert (items[0, :, 4:] < 2**bits - 1).any()


@pytest.mark.parametrize("top", [1023, 4095, 16383])
def test_alpha_that_nearly_reaches_fewer_bits_is_theirs(tmp_path: Path, top: int) -> None:
    values = np.full((3, 8, 12, 4), top // 2, np.uint16)
    values[..., 3] = np.array([top, top - 1, int(0.992 * top)])[:, None, None]
    values[:, 0, 0, :3] = top
    files = {f"{index}.tif": tiff(image) for index, image in enumerate(values)}
    items = open_dataset(fill(tmp_path / "a", files), DataOptions(bits=8)).items.astype(int)
    assert np.abs(items[:, 1:] - 127).max() <= 2
    assert np.abs(open_dataset(values, ALPHA).items.astype(int) - items).max() <= 1


@pytest.mark.parametrize("dtype", [np.int16, np.uint32, np.int64, np.float32])
def test_bytes_in_a_wider_type_are_opaque_at_255(dtype: type) -> None:
    values = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 4)).astype(np.uint8)
    values[0, 0, 0] = 255
    wide = open_dataset(values.astype(dtype), ALPHA)
    assert np.abs(wide.items.astype(int) - open_dataset(values, ALPHA).items).max() <= (dtype is np.float32)
    assert not any("alpha is" in note for note in wide.notes)


def test_alpha_that_is_opaque_nowhere_is_said() -> None:
    values = np.random.default_rng(0).integers(0, 60000, (3, 8, 8, 4)).astype(np.uint16)
    values[..., 3] = 1 + values[..., 3] % 2
    said = "alpha is 2 at most, and 65535 is opaque: nearly all becomes the background"
    assert said in open_dataset(values, ALPHA).notes
    values[0, 0, 0, 3] = 65535
    assert said not in open_dataset(values, ALPHA).notes
