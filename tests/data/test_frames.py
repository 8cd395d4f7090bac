"""Frames of image files as items: pages of TIFFs, also of hostile ones, and frames of animations."""

import io
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from support.cli import Cli, assert_clear_error, start
from support.data import encoded, fill, noise, png, zipped

from raectl.data import DataOptions, open_dataset
from raectl.data.images import files as image_files
from raectl.data.images import formats
from raectl.data.images.formats import page_offsets
from raectl.errors import RaectlError, UsageError

ALL = DataOptions(frames="all")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAECTL_CACHE", str(tmp_path / "cache"))


def stack(pages: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    many = pages.ndim == 4
    form = {"photometric": "minisblack"} | ({"planarconfig": "contig"} if many else {}) | options
    tifffile.imwrite(file, pages, **form, metadata=None)
    return file.getvalue()


def raw(*pages: dict[int, Any], data: bytes = b"", circle: int | None = None, at_end: int = 0) -> bytes:
    """A TIFF of pages of tags, a number or (2, two short ones); `data` is at 8, `circle` the page after the last."""
    body, offsets = bytearray(b"II*\0" + bytes(4) + data), []
    for tags in pages:
        offsets.append(len(body))
        body += struct.pack("<H", len(tags))
        for tag, value in sorted(tags.items()):
            pair = isinstance(value, tuple)
            body += struct.pack("<HHIHH", tag, 3, *value) if pair else struct.pack("<HHII", tag, 4, 1, value)
        body += bytes(4)
    following = [*offsets[1:], offsets[circle] if circle is not None else at_end]
    for tags, offset, after in zip(pages, offsets, following, strict=True):
        struct.pack_into("<I", body, offset + 2 + 12 * len(tags), after)
    struct.pack_into("<I", body, 4, offsets[0])
    return bytes(body)


def page(width: int = 8, length: int = 8, **changed: int) -> dict[int, int]:
    """Tags of 8 x 8 grey pixels of 16 bits, uncompressed at 8."""
    names = {"bits": 258, "samples": 277, "strip": 273, "count": 279, "rows": 278, "compression": 259, "subfile": 254}
    usual = {"bits": 16, "compression": 1, "samples": 1, "strip": 8, "count": 128, "rows": length}
    return {256: width, 257: length, 262: 1} | {names[name]: value for name, value in (usual | changed).items()}


PIXELS = np.arange(64, dtype="<u2").tobytes()

# -- pages and frames --------------------------------------------------------------------------------------------------

STACKS: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "12 bits": (noise(11, 16, 16).astype(np.uint16) * 16, {"compression": "zlib"}),
    "bytes": (noise(11, 16, 16), {}),
    "bytes, compressed": (noise(11, 16, 16), {"compression": "lzw"}),
    "colour": (noise(11, 16, 16, 3), {"photometric": "rgb"}),
    "bands": (noise(11, 16, 16, 5).astype(np.float32) - 99, {"compression": "zlib", "predictor": True}),
    "BigTIFF": (noise(11, 16, 16).astype(np.int16) - 99, {"bigtiff": True}),
    "big-endian": (noise(11, 16, 16).astype(np.uint16) * 257, {"byteorder": ">"}),
    "tiles": (noise(11, 32, 32).astype(np.uint16) * 257, {"tile": (16, 16)}),
}


@pytest.mark.parametrize("kind", STACKS)
def test_the_pages_of_a_stack_are_items(tmp_path: Path, kind: str) -> None:
    pages, options = STACKS[kind]
    content = stack(pages, **options)
    (tmp_path / "a.tif").write_bytes(content)
    expected = open_dataset(pages)
    names = tuple(f"a.tif#{number:02}" for number in range(1, 12))
    for source in (
        tmp_path / "a.tif",
        fill(tmp_path / "a", {"a.tif": content}),
        zipped(tmp_path / "a.zip", {"a.tif": content}),
    ):
        dataset = open_dataset(source, ALL)
        assert np.array_equal(dataset.items, expected.items)
        assert dataset.names == names and dataset.notes == tuple(n for n in expected.notes if "axis" not in n)
        assert open_dataset(dataset.source, dataset.options).fingerprint == dataset.fingerprint
    alone = open_dataset(tmp_path / "a.tif")
    assert alone.names == names and alone.options.frames == "all", "a file as SOURCE has no other items"
    first = open_dataset(tmp_path / "a")
    assert len(first) == 1 and any("11 frames" in note for note in first.notes)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_the_frames_of_an_animation_are_items(tmp_path: Path, kind: str) -> None:
    frames = [Image.fromarray(np.full((16, 16, 3), value, np.uint8)) for value in (0, 80, 160, 240)]
    lossless = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, **lossless)
    still = png(np.full((16, 16, 3), 7, np.uint8))
    dataset = open_dataset(fill(tmp_path / "a", {"a": content, "b.png": still}), ALL)
    assert dataset.names == ("a#1", "a#2", "a#3", "a#4", "b.png")
    assert dataset.items[:, 5, 5, 0].tolist() == [0, 80, 160, 240, 7]
    assert open_dataset(tmp_path / "a").items[:, 5, 5, 0].tolist() == [0, 7]


def test_frames_of_folders_keep_their_classes(tmp_path: Path) -> None:
    files = {f"{name}/x.tif": stack(noise(3, 8, 8, seed=seed)) for seed, name in enumerate("ab")}
    dataset = open_dataset(fill(tmp_path / "a", files), ALL)
    assert dataset.labels is not None
    assert dataset.classes == ("a", "b") and dataset.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_single_page_is_no_stack(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(stack(noise(1, 8, 8)))
    with pytest.raises(RaectlError, match="is a single image"):
        open_dataset(tmp_path / "a.tif")


def test_frames_of_an_array_are_refused(cli: Cli, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", noise(3, 8, 8))
    assert_clear_error(cli.run("check", tmp_path / "a.npy", "--frames", "all"), 2, "--frames has no effect")
    with pytest.raises(UsageError, match="none of first, all"):
        DataOptions(frames="last")


@pytest.mark.parametrize("large", [2**24, 100])
def test_a_stack_is_not_read_for_every_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: int) -> None:
    """Neither where it fits into memory several times, nor where one thread at a time may decode it."""
    monkeypatch.setattr(image_files, "_LARGE", large)
    pages = noise(500, 8, 8).astype(np.uint16) * 257
    (tmp_path / "a.tif").write_bytes(stack(pages))
    reads, original = [], image_files._read
    monkeypatch.setattr(image_files, "_read", lambda *given: reads.append(1) or original(*given))
    assert np.array_equal(open_dataset(tmp_path / "a.tif").items[..., 0], pages)
    assert len(reads) <= 3 + 64


def test_pages_of_other_sizes_and_channels(tmp_path: Path) -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for _ in range(8):
            writer.write(noise(16, 16), photometric="minisblack", metadata=None)
        writer.write(noise(16, 16, 5), photometric="minisblack", planarconfig="contig", metadata=None)
        writer.write(noise(20, 30), photometric="minisblack", metadata=None)
    (tmp_path / "a.tif").write_bytes(file.getvalue())
    dataset = open_dataset(tmp_path / "a.tif")
    assert dataset.items.shape == (9, 64, 64, 1)
    assert dataset.skipped == (("a.tif#09", "5 channels, and most have 1 or 3"),)
    assert any("2 sizes" in note for note in dataset.notes)


# -- hostile ones ------------------------------------------------------------------------------------------------------


def test_a_bad_page_is_a_bad_item(tmp_path: Path) -> None:
    pages = noise(12, 8, 8).astype(np.float32)
    pages[4, 2, 3] = np.nan
    (tmp_path / "a.tif").write_bytes(stack(pages))
    dataset = open_dataset(tmp_path / "a.tif")
    assert len(dataset) == 11
    ((name, reason),) = dataset.skipped
    assert name == "a.tif#05" and "NaN" in reason
    with pytest.raises(RaectlError, match="1 of 12 images"):
        open_dataset(tmp_path / "a.tif", DataOptions(strict=True))
    pages[:8, 0, 0] = np.inf
    (tmp_path / "b.tif").write_bytes(stack(pages))
    with pytest.raises(RaectlError, match="8 of 12 images"):
        open_dataset(tmp_path / "b.tif")


IMAGE = imagecodecs.jpeg2k_encode(np.zeros((4000, 4000), np.uint16), level=0, reversible=True)
BOMB = zlib.compress(bytes(400_000_000), 9)
LYING = {
    "a width of 4 billion": (page(width=2**32 - 1), PIXELS, "too many"),
    "a length of 4 billion": (page(length=2**32 - 1), PIXELS, ""),
    "strips cut by the end": (page(width=64, length=64, count=8192), PIXELS, ""),
    "strips beyond the end": (page(strip=2**31), PIXELS, ""),
    "65,535 samples": (page(samples=65535), PIXELS, ""),
    "65 samples": (page(samples=65), PIXELS, "65 channels are more than 64"),
    "9 samples in the bytes of one": (page(samples=9), PIXELS, ""),
    "128 bits": (page(bits=128), PIXELS, ""),
    "an unknown compression": (page(compression=4711), PIXELS, ""),
    "a strip that is a bomb": (page(compression=8, count=len(BOMB)), BOMB, ""),
    "a strip that is a large image": (page(compression=34712, count=len(IMAGE)), IMAGE, "larger than its page"),
    "a number of columns that is none": (page() | {256: (2, 8, 8)}, PIXELS, ""),
    "a reduced image": (page(subfile=1), PIXELS, "reduced image"),
    "a large tile": (page() | {322: 2**20, 323: 2**20, 324: 8, 325: 128}, PIXELS, ""),
}


@pytest.mark.parametrize("kind", LYING)
def test_a_page_that_lies_is_bad(tmp_path: Path, bounded_memory: None, kind: str) -> None:
    """Alone, the first, and the last of a stack; in bounded memory, and at once."""
    tags, data, said = LYING[kind]
    good = [page(), page(), page()]
    body = data if data is not PIXELS else PIXELS
    odd = raw(tags, data=body)
    files = fill(tmp_path / "a", {"bad.tif": odd, **{f"{i}.tif": raw(page(), data=PIXELS) for i in range(3)}})
    began = time.monotonic()
    for options in (DataOptions(), ALL):
        dataset = open_dataset(files, options)
        ((name, reason),) = dataset.skipped
        assert name == "bad.tif" and said in reason and "\n" not in reason
    if data is PIXELS:
        (tmp_path / "b.tif").write_bytes(raw(*good, tags, data=PIXELS))
        dataset = open_dataset(tmp_path / "b.tif")
        assert len(dataset) == 3
        assert [name for name, _ in dataset.skipped] == ["b.tif#4"]
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("count", [0, 64, 129, 2**32 - 1])
def test_a_number_of_bytes_that_is_wrong_but_not_needed_changes_nothing(tmp_path: Path, count: int) -> None:
    files = {"0.tif": raw(page(), data=PIXELS), "1.tif": raw(page(count=count), data=PIXELS)}
    one, other = open_dataset(fill(tmp_path / "a", files)).items
    assert np.array_equal(one, other)


@pytest.mark.parametrize("circle", [0, 1, 3])
def test_a_circle_of_pages_ends(tmp_path: Path, circle: int) -> None:
    content = raw(page(), page(), page(), page(), data=PIXELS, circle=circle)
    assert len(page_offsets(content)) == 4
    (tmp_path / "a.tif").write_bytes(content)
    assert len(open_dataset(tmp_path / "a.tif")) == 4
    assert any("4 frames" in note for note in open_dataset(fill(tmp_path / "a", {"a.tif": content})).notes)


def test_a_circle_after_many_pages_ends(tmp_path: Path) -> None:
    content = raw(*[page()] * 300, data=PIXELS, circle=200)
    assert len(open_dataset(fill(tmp_path / "a", {"a.tif": content}))) == 1
    assert len(open_dataset(tmp_path / "a", ALL)) == 300


def test_odd_files_are_not_logged_to_the_terminal(tmp_path: Path) -> None:
    files = {f"{i}.tif": stack(noise(3, 8, 8, 9, seed=i)) for i in range(3)}
    fill(tmp_path / "a", {**files, "x.tif": raw(page(samples=65535), page(width=2**31), data=PIXELS)})
    out, told = start("check", tmp_path / "a", "--frames", "all").communicate(timeout=60)
    assert "x.tif#1" in out and told == ""


def test_a_chain_that_leaves_the_file_ends_there(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(raw(page(), page(), data=PIXELS, at_end=2**31))
    assert len(open_dataset(tmp_path / "a.tif")) == 2
    assert page_offsets(b"II*\0\xff\xff\xff\x7f") == [] and page_offsets(b"II*\0") == []
    assert page_offsets(b"II+\0\x08\0\0\0" + bytes(8)) == []


def test_ten_thousand_pages(tmp_path: Path, bounded_memory: None) -> None:
    """They are counted at once, and, as here of 2,000, converted in a time that grows with their number."""
    pages = np.arange(10_000, dtype=np.uint16)[:, None, None].repeat(8, 1).repeat(8, 2) * np.uint16(6)
    content = stack(pages)
    began = time.monotonic()
    assert len(page_offsets(content)) == 10_000
    assert any("10,000 frames" in note for note in open_dataset(fill(tmp_path / "a", {"a.tif": content})).notes)
    assert time.monotonic() - began < 2
    (tmp_path / "a.tif").write_bytes(stack(pages[:2000]))
    assert np.array_equal(open_dataset(tmp_path / "a.tif", DataOptions(range="0:65535")).items[..., 0], pages[:2000])
    assert time.monotonic() - began < 60


def test_too_many_pages_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raectl.data.images.frames.MOST_PAGES", 5)
    monkeypatch.setattr(formats, "MOST_PAGES", 5)
    (tmp_path / "a.tif").write_bytes(stack(noise(7, 8, 8)))
    with pytest.raises(RaectlError, match="more than 5 frames"):
        open_dataset(tmp_path / "a.tif")
