"""The range of values wider than bytes is decided once for a whole source, alike for every form of the data."""

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from support.cli import Cli, assert_clear_error
from support.data import encoded, zipped

from raectl.config.digits import outward
from raectl.data import DataOptions, open_dataset
from raectl.data.values import FLOATS, INTEGERS, Extremes, Range, decide, extremes, parse, told
from raectl.errors import RaectlError, UsageError


def ramp(n: int = 6, side: int = 8) -> np.ndarray:
    """(n, side, side) of all levels from 0 to 1, in a different order in each image."""
    rng = np.random.default_rng(0)
    return np.stack([rng.permutation(np.linspace(0, 1, side * side)).reshape(side, side) for _ in range(n)])


def png16(values: np.ndarray, significant: int | None = None) -> bytes:
    """(H, W) or (H, W, 3) uint16 as a PNG of 16 bits, with the chunk sBIT if bits are given."""
    colour = 2 if values.ndim == 3 else 0

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour, 0, 0, 0)
    said = chunk(b"sBIT", bytes([significant] * (3 if colour else 1))) if significant else b""
    rows = b"".join(b"\0" + row.tobytes() for row in values.astype(">u2"))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + said + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def tiff(values: np.ndarray, **more: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, **{"photometric": "minisblack", **more})
    return file.getvalue()


def folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


# -- one range -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "found", "expected"),
    [
        (INTEGERS, Extremes(0, 4095), (0, 4095)),
        (INTEGERS, Extremes(17, 3000), (0, 4095)),
        (INTEGERS, Extremes(0, 200, 12), (0, 4095)),
        (INTEGERS, Extremes(0, 5000, 12), (0, 8191)),  # the declaration is wrong
        (INTEGERS, Extremes(0, 65535), (0, 65535)),
        (INTEGERS, Extremes(0, 32767), (0, 32767)),
        (INTEGERS, Extremes(-1000, 3000), (-1000, 3000)),
        (INTEGERS, Extremes(0, 1), (0, 255)),
        (FLOATS, Extremes(0, 1), (0, 1)),
        (FLOATS, Extremes(0.1, 1 + 1e-7), (0, 1)),
        (FLOATS, Extremes(-0.02, 1.12), (0, 1)),
        (FLOATS, Extremes(-0.9, 1), (-1, 1)),
        (FLOATS, Extremes(0, 226), (0, 255)),
        (FLOATS, Extremes(-1000, 3000), (-1000, 3000)),
        (FLOATS, Extremes(700, 700), (700, 701)),
    ],
)
def test_the_range_of_values(kind: str, found: Extremes, expected: tuple[float, float]) -> None:
    assert Range.of(kind, found) == expected
    text, _ = decide({kind: found}, None, has_bytes=False)
    assert text is not None
    assert parse(text) == {kind: expected}
    assert decide({kind: Extremes(-5, 7)}, text, has_bytes=False)[0] == text, "a model's range is kept"


def test_what_is_clipped_is_said() -> None:
    _, (note,) = decide({FLOATS: Extremes(0, 1.12)}, None, has_bytes=False)
    assert "0 to 1.12" in note and "clipped" in note and "--range" in note
    assert decide({FLOATS: Extremes(0, 1)}, None, has_bytes=False)[1] == ()
    assert "clipped" in decide({INTEGERS: Extremes(0, 9)}, "0:8", has_bytes=False)[1][0]


@pytest.mark.parametrize(
    "text", ["", "5", "5:", "5:5", "7:5", "nan:1", "0:inf", "a:b", "0:1:2", "integers 0:1, integers 0:2", None]
)
def test_what_is_no_range_is_refused(text: Any) -> None:
    with pytest.raises(UsageError, match="no range LO:HI"):
        parse(text)


def test_ranges_are_read_as_they_are_told() -> None:
    ranges = {FLOATS: Range(-0.1, 1 / 3), INTEGERS: Range(0, 4095)}
    text = told(ranges)
    assert text is not None
    assert parse(text) == ranges


def test_values_that_are_not_finite_are_counted() -> None:
    values = np.zeros((4, 5))
    values[1, 2], values[3, 4] = np.nan, np.inf
    with pytest.raises(ValueError, match="2 of 20 values are NaN or infinite") as caught:
        extremes(values, FLOATS)
    assert getattr(caught.value, "first") == 7  # noqa: B009


# -- every form of the data ------------------------------------------------------------------------------------------

FORMS = {
    "bytes": np.rint(ramp() * 255).astype(np.uint8),
    "16 bits": np.rint(ramp() * 65535).astype(np.uint16),
    "12 bits": np.rint(ramp() * 4095).astype(np.uint16),
    "signed": np.rint(ramp() * 4000 - 1000).astype(np.int16),
    "signed bytes": np.rint(ramp() * 255 - 128).astype(np.int8),
    "floats": ramp().astype(np.float32),
    "double": ramp() * 255,
    "half": ramp().astype(np.float16),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_the_data_gives_the_same_bytes(tmp_path: Path, name: str) -> None:
    values = FORMS[name]
    tiffs = {f"{index}.tif": tiff(image) for index, image in enumerate(values)}
    np.save(tmp_path / "a.npy", values)
    np.savez(tmp_path / "a.npz", images=values)
    sources: list[Any] = [values, tmp_path / "a.npy", tmp_path / "a.npz", folder(tmp_path / "tiffs", tiffs)]
    sources.append(zipped(tmp_path / "a.zip", tiffs))
    if values.dtype in (np.uint8, np.uint16):
        form = png16 if values.dtype == np.uint16 else lambda image: encoded(Image.fromarray(image), "PNG")
        sources.append(folder(tmp_path / "pngs", {f"{i}.png": form(image) for i, image in enumerate(values)}))
    opened = [open_dataset(source) for source in sources]
    first = opened[0].items
    assert first.dtype == (np.uint8 if "bytes" in name else np.uint16)
    assert first.min() == 0
    assert first.max() == np.iinfo(first.dtype).max
    assert open_dataset(values, DataOptions(bits=8)).items.max() == 255
    ordered = first[0].reshape(-1)[np.argsort(values[0].reshape(-1), kind="stable")].astype(int)
    assert (np.diff(ordered) >= 0).all(), "monotone"
    for dataset in opened[1:]:
        assert np.array_equal(dataset.items, first)
        assert dataset.options == opened[0].options


def test_colour_of_16_bits_keeps_its_contrast(tmp_path: Path) -> None:
    values = np.rint(np.stack([ramp(2, 8)] * 3, axis=-1) * 4095).astype(np.uint16)
    pngs = folder(tmp_path / "pngs", {f"{index}.png": png16(image) for index, image in enumerate(values)})
    tiffs = {f"{index}.tif": tiff(image, photometric="rgb") for index, image in enumerate(values)}
    first = open_dataset(pngs).items
    assert first.shape == (2, 8, 8, 3)
    assert len(np.unique(first)) == 64
    assert np.array_equal(open_dataset(folder(tmp_path / "tiffs", tiffs)).items, first)
    assert np.array_equal(open_dataset(values).items, first)


def test_a_dark_image_among_bright_ones_stays_dark(tmp_path: Path) -> None:
    images = np.rint(ramp(4) * 255).astype(np.float32)
    images[2] /= 255
    source = folder(tmp_path / "a", {f"{index}.tif": tiff(image) for index, image in enumerate(images)})
    assert open_dataset(source).items[2].max() == 257


def test_declared_bits_decide(tmp_path: Path) -> None:
    dim = {f"{index}.png": png16(np.full((8, 8), 1000, np.uint16), 12) for index in range(3)}
    dataset = open_dataset(folder(tmp_path / "a", dim))
    assert dataset.options.range == "integers 0:4095"
    assert "12 bits that the files declare" in dataset.notes[0]


def test_white_is_zero(tmp_path: Path) -> None:
    values = np.array([[0, 65535]] * 8, np.uint16).repeat(4, axis=1)
    for dtype, scale in ((np.uint16, 1), (np.float32, 65535), (np.uint8, 257)):
        content = tiff((values / scale).astype(dtype), photometric="miniswhite")
        items = open_dataset(folder(tmp_path / str(dtype.__name__), {"a.tif": content})).items
        assert items[0, 0, 0, 0] == np.iinfo(items.dtype).max
        assert items[0, 0, -1, 0] == 0


def test_a_given_range_is_taken_and_kept(tmp_path: Path) -> None:
    for values in (np.arange(17).repeat(64).reshape(17, 8, 8).astype(dtype) for dtype in ("u1", "u2", "i8", "f4")):
        dataset = open_dataset(values, DataOptions(range="0:16"))
        assert dataset.items[16].min() == np.iinfo(dataset.items.dtype).max
        assert dataset.items[8].min() == (np.iinfo(dataset.items.dtype).max + 1) / 2
        assert np.array_equal(open_dataset(values, dataset.options).items, dataset.items)
    other = open_dataset(np.full((2, 8, 8), 8, np.uint8), DataOptions(range="integers 0:4095"))
    assert other.items.max() == 8, "a range of integers says nothing of bytes"


def test_an_array_whose_bytes_are_cached_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", FORMS["12 bits"])
    first = open_dataset(tmp_path / "a.npy")
    monkeypatch.setattr("raectl.data.images.array.extremes", lambda *_: pytest.fail("the values are looked at again"))
    again = open_dataset(tmp_path / "a.npy")
    assert np.array_equal(again.items, first.items)
    assert (again.options, again.notes) == (first.options, first.notes)


# -- arrays and files ------------------------------------------------------------------------------------------------


def test_a_value_that_is_no_number_is_named() -> None:
    values = np.zeros((3, 8, 8))
    values[2, 3, 4] = np.nan
    with pytest.raises(RaectlError, match=r"1 of 192 values .* index \(2, 3, 4, 0\)"):
        open_dataset(values)


def test_four_channels_are_not_alpha_unless_it_is_said(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (3, 8, 8, 4), dtype=np.uint8)
    dataset = open_dataset(values)
    assert np.array_equal(dataset.items, values)
    assert any("if the fourth is alpha: --alpha" in note for note in dataset.notes)
    assert open_dataset(values, DataOptions(alpha=True)).items.shape == (3, 8, 8, 3)
    unsaid = folder(
        tmp_path / "a", {f"{i}.tif": tiff(image, photometric="rgb", extrasamples=[0]) for i, image in enumerate(values)}
    )
    assert np.array_equal(open_dataset(unsaid).items, values)


def test_alpha_has_no_effect_without_a_fourth_channel(cli: Cli, tmp_path: Path) -> None:
    files = folder(tmp_path / "a", {f"{i}.png": encoded(Image.new("RGBA", (8, 8), "red"), "PNG") for i in range(3)})
    assert_clear_error(cli.run("check", files, "--alpha"), 2, "--alpha has no effect", "files say themselves")
    np.save(tmp_path / "b.npy", np.zeros((3, 8, 8, 3), np.uint8))
    assert_clear_error(cli.run("check", tmp_path / "b.npy", "--alpha"), 2, "it has no fourth channel")
    np.save(tmp_path / "c.npy", np.zeros((3, 8, 8, 4), np.uint8))
    cli("check", tmp_path / "c.npy", "--alpha")


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_values_of_another_kind_than_the_models_are_said(dtype: str) -> None:
    of_integers = DataOptions(image_size=8, channels=1, range="integers 0:4095", background="white")
    (note,) = open_dataset((ramp() * 255).astype(dtype), of_integers).notes[:1]
    assert "trained on integers from 0 to 4095; these are" in note
    assert open_dataset((ramp() * 4095).astype(np.uint16), of_integers).notes == ()


def test_too_many_channels_are_refused_without_a_hint_that_destroys() -> None:
    with pytest.raises(RaectlError) as caught:
        open_dataset(np.zeros((10, 80, 90, 65), np.uint16))
    assert "astype" not in str(caught.value) + str(caught.value.hint)


def test_frames_left_out_are_counted(tmp_path: Path) -> None:
    stacks = {f"{index}.tif": tiff(np.rint(ramp(5) * 255).astype(np.uint8)) for index in range(3)}
    (note,) = open_dataset(folder(tmp_path / "a", stacks)).notes
    assert "3 of 3 images hold 15 frames" in note
    assert "12 are left out" in note


def test_one_colour_image_among_grey_ones_is_named(tmp_path: Path) -> None:
    grey = {f"{index}.png": encoded(Image.new("L", (8, 8), index), "PNG") for index in range(5)}
    mixed = folder(tmp_path / "a", {**grey, "red.png": encoded(Image.new("RGB", (8, 8), "red"), "PNG")})
    assert any("red.png" in note and "1 of 6" in note for note in open_dataset(mixed).notes)
    assert any("became grey" in note for note in open_dataset(mixed, DataOptions(channels=1)).notes)
    assert open_dataset(folder(tmp_path / "b", grey)).notes == ()


def test_images_are_known_by_their_content(tmp_path: Path) -> None:
    image = encoded(Image.new("RGB", (8, 8), "red"), "PNG")
    files = {"a.png": image, "b.jpg_large": image, "c": image, "d.txt": b"text", "e.heic": b"\0" * 40}
    for source in (folder(tmp_path / "a", files), zipped(tmp_path / "a.zip", files)):
        dataset = open_dataset(source)
        assert dataset.names == ("a.png", "b.jpg_large", "c")
        assert any("2 files" in note and ".heic" in note and ".txt" in note for note in dataset.notes)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_transparent_grey_level_shows_the_background(tmp_path: Path, bits: int) -> None:
    """Row 0 has the level that is transparent, in a grey PNG of few bits."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    level = 2**bits - 1
    rows = (b"\0" + b"\xff" * bits) + (b"\0" + b"\0" * bits) * 7
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, bits, 0, 0, 0, 0))
    content += chunk(b"tRNS", struct.pack(">H", level)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    source = folder(tmp_path / "a", {"a.png": content})
    items = open_dataset(source, DataOptions(background="#808080")).items[0, ..., 0]
    assert set(items[0].tolist()) == {128}
    assert set(items[1].tolist()) == {0}


def test_a_folder_that_may_not_be_read_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = encoded(Image.new("L", (8, 8), 3), "PNG")
    source = folder(tmp_path / "a", {"b/1.png": image, "c/2.png": image})
    usual = os.scandir

    def scandir(path: Any) -> Any:
        if str(path).rstrip("/").endswith("/c"):
            raise PermissionError(13, "Permission denied")
        return usual(path)

    monkeypatch.setattr(os, "scandir", scandir)
    dataset = open_dataset(source)
    assert dataset.names == ("b/1.png",)
    assert dataset.skipped == (("c/", "Permission denied"),)


@pytest.mark.parametrize("spec", [[1, 2], [np.zeros((8, 8))], None, 3])
def test_what_is_no_source_is_refused_in_one_line(spec: Any) -> None:
    with pytest.raises(UsageError, match="a SOURCE is a name, a path or an array"):
        open_dataset(spec)


def test_a_quoted_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 8, 8), np.uint8))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(open_dataset("~/a.npy")) == 3


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (20_000_000, 20_000_066, "20000000:20000066"),
        (1e15, 1e15 + 40, "1000000000000000:1000000000000040"),
        (1e9, 1e9 + 0.5, "1000000000:1000000000.5"),
        (-1e9 - 0.125, -1e9, "-1000000000.125:-1000000000"),
        (0.0, 12345.0, "0:12400"),
        (-0.0, 1.25e-9, "0:0.00000000125"),
        (1.0e-30, 3.5e-30, None),
        (2.0e30, 2.0000003e30, None),
        (0.1, 0.7, "0.1:0.7"),
        (-1e300, 1e300, None),
    ],
)
def test_the_range_that_is_suggested_holds_the_values_and_hardly_more(
    low: float, high: float, expected: str | None
) -> None:
    text = outward(low, high)
    chosen = parse(text)[None]
    assert chosen.low <= low and chosen.high >= high and len(text) < 50
    assert chosen.high - chosen.low <= 1.03 * (high - low)
    assert expected in (None, text)


def test_a_note_tells_values_apart_that_lie_close_together() -> None:
    images = np.full((2, 8, 8, 1), 20_000_000, np.int32)
    images[:, ::2] += 66
    (note,) = decide({INTEGERS: extremes([images], INTEGERS)}, None, has_bytes=False)[1]
    assert note.startswith("integers from 20000000 to 20000066: 0 to 33554431 became 0 to 65535")
    assert "--range 20000000:20000066 spreads" in note
    close = 1e9 + np.random.default_rng(0).uniform(0, 1, (2, 8, 8, 1))
    (note,) = decide({FLOATS: extremes([close], FLOATS)}, None, has_bytes=False)[1]
    first, last = note.split(":")[0].removeprefix("floats from ").split(" to ")
    assert 0.8 < float(last) - float(first) < 1.1
