"""TIFFs whose tags do not say what they should."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from support.data import fill

from raectl.data import DataOptions, open_dataset
from raectl.data.images import decode
from raectl.errors import RaectlError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAECTL_CACHE", str(tmp_path / "cache"))


def tiff(channels: int, dtype: str = "u2", size: tuple[int, int] = (16, 16), **more: Any) -> bytes:
    """A page of noise."""
    values = np.random.default_rng(channels).integers(1, np.iinfo(dtype).max, (*size, channels), dtype)
    file = io.BytesIO()
    layout = {"planarconfig": "contig"} if channels > 1 else {}
    tifffile.imwrite(file, values, **({"photometric": "minisblack"} | layout | more))
    return file.getvalue()


def with_tag(file: bytes, name: str, value: Any) -> bytes:
    """A TIFF with another value of a tag, or with other last ones if these are a list."""
    changed = io.BytesIO(file)
    with tifffile.TiffFile(changed, mode="r+") as opened:
        tag = opened.pages.first.tags[name]
        tag.overwrite([*tag.value[: len(tag.value) - len(value)], *value] if isinstance(value, list) else value)
        return changed.getvalue()


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize(
    ("channels", "compression", "tag", "value", "reason"),
    [
        (1, None, "StripByteCounts", [0] * 5, "5 of 8 strips"),
        (1, "zlib", "StripByteCounts", [0] * 5, "5 of 8 strips"),
        (5, "zlib", "StripOffsets", [0] * 5, "5 of 8 strips"),
        (1, "zlib", "ImageLength", 24, "4 of 12 strips"),
        (1, None, "ImageLength", 24, "4 of 12 strips"),
    ],
)
def test_missing_strips_make_an_image_bad(
    tmp_path: Path, channels: int, compression: str | None, tag: str, value: Any, reason: str, dtype: str
) -> None:
    whole = tiff(channels, dtype, rowsperstrip=2, compression=compression)
    files = {"0.tif": with_tag(whole, tag, value), "1.tif": whole, "2.tif": whole}
    dataset = open_dataset(fill(tmp_path / "a", files), DataOptions(max_bad=0.5))
    if dtype == "u1" and channels == 1 and compression is None and tag == "StripByteCounts":  # Pillow needs no counts
        assert np.ptp(dataset.items, axis=0).max() == 0
    else:
        assert dataset.skipped == (("0.tif", f"{reason} are missing"),)


def test_missing_tiles_make_an_image_bad_and_one_strip_of_other_rows_does_not(tmp_path: Path) -> None:
    tiled = with_tag(tiff(1, size=(32, 32), tile=(16, 16)), "TileOffsets", [0])
    with pytest.raises(RaectlError, match="1 of 4 tiles are missing"):
        open_dataset(fill(tmp_path / "a", {"0.tif": tiled}))
    whole = tiff(1, rowsperstrip=16)
    files = {"0.tif": with_tag(whole, "RowsPerStrip", 4), "1.tif": whole}
    assert np.ptp(open_dataset(fill(tmp_path / "b", files)).items, axis=0).max() == 0


@pytest.mark.filterwarnings("ignore:Metadata Warning")
@pytest.mark.parametrize(
    ("dtype", "value"), [("u1", 0), ("u1", 9), ("u2", 0), ("u2", 9), ("u2", 77), ("u2", (6, 1)), ("u2", (6, 6))]
)
def test_an_orientation_that_is_none_leaves_a_page_upright(tmp_path: Path, dtype: str, value: Any) -> None:
    count = len(value) if isinstance(value, tuple) else 1
    plain, odd = (tiff(1, dtype, (8, 16), extratags=[(274, "H", *tag)]) for tag in ((1, 1), (count, value)))
    assert decode.header(decode.open_picture(odd)).size == (16, 8)
    items = open_dataset(fill(tmp_path / "a", {"0.tif": odd, "1.tif": plain})).items
    assert items.shape == (2, 8, 16, 1) and (items[0] == items[1]).all()
