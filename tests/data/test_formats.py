"""Forms of image files and arrays in which pixels went wrong in silence, each beside its plain twin."""

import io
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from support.data import encoded, fill, noise, png

from raectl.data import DataOptions, open_dataset
from raectl.data.images import decode, plain
from raectl.data.values import FLOATS, INTEGERS, Range, decide, extremes
from raectl.errors import RaectlError, UsageError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAECTL_CACHE", str(tmp_path / "cache"))


def tiff(values: np.ndarray, **more: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, **more)
    return file.getvalue()


IN_BYTES = DataOptions(bits=8)


def items(folder: Path, name: str, *contents: bytes, options: DataOptions = IN_BYTES) -> np.ndarray:
    """What files of these contents become, as bytes."""
    files = {f"{index}{name}": content for index, content in enumerate(contents)}
    return np.array(open_dataset(fill(folder, files), options).items)


def deep(channels: int = 3, top: int = 65535, seed: int = 0) -> np.ndarray:
    """(16, 16, channels) uint16, from 0 to `top`."""
    values = np.random.default_rng(seed).integers(0, top + 1, (16, 16, channels))
    values[0, 0], values[0, 1] = 0, top
    return values.astype(np.uint16)


# -- the range -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-2.1, 2.6, None),  # normalized by ImageNet's mean
        (-1.7, 1.7, None),  # standardized
        (-1.4, 1.4, None),
        (-63, 40, None),
        (-20, 20, None),
        (0, 1.3, None),
        (0, 2, None),
        (0, 1, (0, 1)),
        (-1, 1, (-1, 1)),
        (0, 200, (0, 255)),
        (-1.05, 1.05, (-1, 1)),
    ],
)
def test_a_usual_range_is_taken_where_nearly_all_values_lie(low: float, high: float, expected: Any) -> None:
    values = np.random.default_rng(0).uniform(low, high, (5, 32, 32))
    chosen = Range.of(FLOATS, extremes([values], FLOATS))
    assert chosen == (expected or (values.min(), values.max()))


def test_a_hot_pixel_or_a_dim_source_is_said() -> None:
    hot = deep(1, 4095)[None]
    hot[0, 5, 5] = 65535
    (note,) = decide({INTEGERS: extremes([hot], INTEGERS)}, None, has_bytes=False)[1]
    low, high = map(float, re.search(r"--range (\S+):(\S+) spreads", note).groups())  # type: ignore[union-attr]
    assert "nearly all fill 6" in note and low < 200 and 3900 < high < 4200
    dim = np.random.default_rng(0).uniform(0, 0.02, (3, 16, 16))
    assert "nearly all fill 1.9%" in decide({FLOATS: extremes([dim], FLOATS)}, None, has_bytes=False)[1][0]


def test_every_channel_and_column_decides_the_range() -> None:
    values = np.zeros((1, 256, 256, 3))
    values[..., 2] = np.random.default_rng(0).uniform(-1.5, 1.5, values.shape[:3])  # beyond -1 to 1 in blue alone
    assert extremes([values], FLOATS).most is not None
    assert Range.of(FLOATS, extremes([values], FLOATS)) == (values.min(), values.max())


def test_the_range_does_not_depend_on_how_images_come() -> None:
    images = [deep(1, 4095, seed) for seed in range(4)]
    one_by_one = [extremes([image[None]], INTEGERS) for image in images]
    together = one_by_one[0] | one_by_one[1] | one_by_one[2] | one_by_one[3]
    assert extremes([np.stack(images)], INTEGERS) == together


# -- alpha -----------------------------------------------------------------------------------------------------------


def test_premultiplied_alpha_is_applied_once(tmp_path: Path) -> None:
    colours, alpha = deep().astype(float), np.linspace(0, 1, 256).reshape(16, 16, 1)
    values = np.rint(np.concatenate([colours * alpha, 65535 * alpha], axis=2)).astype(np.uint16)
    shown = items(tmp_path / "a", ".tif", tiff(values, photometric="rgb", extrasamples=["assocalpha"]))[0]
    expected = 255 * (colours / 65535 * alpha + 1 - alpha)
    assert np.abs(shown - expected)[alpha[..., 0] > 0.01].max() <= 1.5
    grey = np.rint(values[..., [0, 3]] / 257).astype(np.uint8)
    shown = items(tmp_path / "b", ".tif", tiff(grey, photometric="minisblack", extrasamples=["assocalpha"]))[0]
    assert np.abs(shown[..., 0] - expected[..., 0])[alpha[..., 0] > 0.1].max() <= 3


@pytest.mark.parametrize("extra", ["unassalpha", "assocalpha"])
@pytest.mark.parametrize("top", [4095, 16383, 65535])
def test_alpha_of_fewer_bits_is_opaque_at_their_greatest_value(tmp_path: Path, extra: str, top: int) -> None:
    alpha = np.rint(np.linspace(0, 1, 256).reshape(16, 16, 1) * top)
    values = np.concatenate([np.full((16, 16, 3), 0.0), alpha], axis=2).astype(np.uint16)  # black on white
    values[0, 1, :3] = 0 if extra == "assocalpha" else top  # so that the colours' range is as wide
    shown = items(tmp_path, ".tif", tiff(values, photometric="rgb", extrasamples=[extra]))[0]
    expected = np.broadcast_to(255 * (1 - alpha / top), shown.shape)
    assert np.abs(shown - expected)[1:].max() <= 1


def test_a_bitmap_that_is_transparent_everywhere_is_opaque(tmp_path: Path) -> None:
    colours = noise(1, 16, 16, 3)[0]
    for name, alpha in (("idle", 0), ("used", 255)):
        rgba = np.concatenate([colours, np.full((16, 16, 1), alpha, np.uint8)], axis=2)
        # A header of version 4 with masks, as programs write it that know of alpha.
        pixels = np.flipud(rgba[..., [2, 1, 0, 3]]).tobytes()
        masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
        info = struct.pack("<IiiHHIIiiII", 108, 16, 16, 1, 32, 3, len(pixels), 0, 0, 0, 0) + masks + bytes(52)
        data = b"BM" + struct.pack("<IHHI", 14 + 108 + len(pixels), 0, 0, 14 + 108) + info + pixels
        assert (items(tmp_path / name, ".bmp", data)[0] == colours).all()


@pytest.mark.parametrize("kind", ["12 bits", "-1 to 1", "0 to 255", "a given range"])
def test_alpha_of_an_array_has_its_own_range(kind: str) -> None:
    opaque = DataOptions(alpha=True, bits=8)
    shape = (4, 8, 8, 3)
    if kind == "12 bits":
        colours, alpha, low, high = deep(3, 4095)[:8, :8][None].repeat(4, 0), np.uint16(65535), 0, 4095
    elif kind == "-1 to 1":
        colours, alpha, low, high = np.random.default_rng(0).uniform(-1, 1, shape), 1.0, -1, 1
    elif kind == "0 to 255":
        colours, alpha, low, high = np.random.default_rng(0).uniform(0, 255, shape), 1.0, 0, 255
    else:
        colours, alpha, low, high = noise(4, 8, 8, 3), np.uint8(255), 50, 200
        opaque = DataOptions(alpha=True, range="50:200", bits=8)
    full, nothing = (np.full((*shape[:3], 1), value, colours.dtype) for value in (alpha, 0))
    expected = np.rint((colours.astype(float) - low) / (high - low) * 255).clip(0, 255)
    assert (open_dataset(np.concatenate([colours, full], axis=-1), opaque).items == expected).all()
    half = np.concatenate([full[:2], nothing[2:]])
    assert (open_dataset(np.concatenate([colours, half], axis=-1), opaque).items[2:] == 255).all()


def test_what_is_hidden_does_not_decide_the_range(tmp_path: Path) -> None:
    values = np.concatenate([deep(3, 4095), np.full((16, 16, 1), 65535, np.uint16)], axis=2)
    values[3, 3] = 65535, 65535, 65535, 0
    file = imagecodecs.png_encode(values)
    for source in (fill(tmp_path / "a", {"0.png": file, "1.png": file}), np.stack([values, values])):
        assert open_dataset(source, DataOptions(alpha=not isinstance(source, Path))).options.range == "integers 0:4095"


# -- formats ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("photometric", ["separated", "cielab", "palette"])
def test_colour_spaces_of_16_bits_are_refused_by_name(tmp_path: Path, photometric: str) -> None:
    if photometric == "palette":
        file = tiff(deep(1)[..., 0], photometric="palette", colormap=np.zeros((3, 65536), np.uint16))
    else:
        file = tiff(deep(4 if photometric == "separated" else 3), photometric=photometric)
    with pytest.raises(RaectlError, match=f"16 bits of {photometric.upper()}"):
        items(tmp_path / "a", ".tif", file)


@pytest.mark.parametrize("form", ["P6", "P3", "P5", "P2", "jp2"])
def test_other_formats_of_wide_values_equal_the_array(tmp_path: Path, form: str) -> None:
    values = deep(1 if form in ("P5", "P2") else 3, 4095)
    if form == "jp2":
        name, file = ".jp2", imagecodecs.jpeg2k_encode(values, level=0, codecformat="jp2", reversible=True)
    else:
        text = b" ".join(b"%d" % value for value in values.ravel().tolist())
        body = values.astype(">u2").tobytes() if form in ("P6", "P5") else text
        name, file = ".ppm", f"{form}\n# as of a camera\n16 16 65535\n".encode() + body
    assert (items(tmp_path / "a", name, file) == open_dataset(values[None], IN_BYTES).items).all()


def test_the_largest_value_that_a_pgm_declares_is_its_range(tmp_path: Path) -> None:
    values = deep(1, 900)
    (item,) = items(tmp_path / "a", ".pgm", b"P5 16 16 4095\n" + values.astype(">u2").tobytes())
    assert (item == np.rint(values / 4095 * 255)).all()


def test_a_png_of_16_bits_is_turned_as_one_of_8_is(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6

    def with_exif(file: bytes) -> bytes:
        """The chunk eXIf behind the pixels."""
        data = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
        chunk = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
        return file[:-12] + chunk + file[-12:]

    bytes_of = noise(1, 16, 16, 3)[0]
    both = (png(bytes_of), imagecodecs.png_encode(bytes_of.astype(np.uint16) * 257))
    turned, wide = (items(tmp_path / str(index), ".png", with_exif(file)) for index, file in enumerate(both))
    assert (turned == wide).all() and not (turned[0] == bytes_of).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [({"subfiletype": 1}, "its first page is a reduced image"), ({"volumetric": True}, "a volume of 5 slices")],
)
def test_pages_that_are_no_image_are_named(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    volume = "volumetric" in options
    values = np.zeros((5, 16, 16) if volume else (16, 16), np.uint8)
    with pytest.raises(RaectlError, match=said):
        items(tmp_path / "a", ".tif", tiff(values, photometric="minisblack", **options))


def test_a_cameras_raw_files_beside_its_jpegs_are_left_out(tmp_path: Path) -> None:
    thumbnail = tiff(noise(1, 16, 16, 3)[0], photometric="rgb")
    files = {"0.png": png(noise(1, 32, 32, 3)[0]), "0.DNG": thumbnail, "0.nef": thumbnail}
    dataset = open_dataset(fill(tmp_path / "a", files))
    assert dataset.names == ("0.png",)
    assert "1 .dng" in dataset.notes[0] and "1 .nef" in dataset.notes[0]


def test_tiffs_that_pillow_does_not_know(tmp_path: Path) -> None:
    values = noise(1, 16, 16, 3)[0]
    assert (
        items(tmp_path / "a", ".tif", tiff(values, photometric="minisblack", planarconfig="contig"))[0] == values
    ).all()
    assert (items(tmp_path / "b", "", tiff(values, photometric="rgb", bigtiff=True))[0] == values).all()


def test_a_value_that_is_no_number_has_its_place(tmp_path: Path) -> None:
    values = np.zeros((16, 16), np.float32)
    values[3, 5] = np.nan
    with pytest.raises(RaectlError, match=r"1 of 256 values .* first in row 3, column 5"):
        items(tmp_path / "a", ".tif", tiff(values))


def test_a_broken_file_does_not_decide_the_channels(tmp_path: Path) -> None:
    grey = {f"{index}.png": encoded(Image.fromarray(noise(1, 16, 16, seed=index)[0]), "PNG") for index in range(9)}
    whole = png(noise(1, 16, 16, 3, seed=99)[0])
    dataset = open_dataset(fill(tmp_path / "a", {**grey, "x.png": whole[: len(whole) // 2]}))
    assert dataset.items.shape == (9, 16, 16, 1)
    assert dataset.found["suffixes"] == {".png": 10}


# -- arrays ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(32, 32, 3, 12), (12, 784), (32, 32), (12, 80, 96, 80)])
def test_the_remedy_for_a_shape_makes_images(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    with pytest.raises(RaectlError) as caught:
        open_dataset(x)
    assert caught.value.hint is not None
    remedied = eval(caught.value.hint.rpartition(": ")[2], {"x": x, "np": np})
    assert open_dataset(remedied).items.shape[0] == (1 if shape == (32, 32) else 12)


def test_the_remedy_for_what_is_not_finite_leaves_the_others_alone() -> None:
    x = np.random.default_rng(0).uniform(0, 1, (3, 8, 8))
    x[1, 2, 3] = np.inf
    with pytest.raises(RaectlError) as caught:
        open_dataset(x)
    remedied = eval(str(caught.value.hint).partition(" has ")[0], {"x": x, "np": np})
    assert open_dataset(remedied).options.range == "floats 0:1"


def test_a_masked_array_is_refused() -> None:
    with pytest.raises(UsageError, match="masked"):
        open_dataset(np.ma.masked_less(noise(3, 8, 8), 9))


def test_colour_for_a_grey_model_is_said_of_an_array_too() -> None:
    (note,) = open_dataset(noise(3, 8, 8, 3), DataOptions(image_size=8, channels=1)).notes
    assert "became grey" in note


@pytest.mark.parametrize("options", [{"background": (0, 0, 0)}, {"max_bad": "1%"}])
def test_options_of_a_wrong_type_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        open_dataset(noise(3, 8, 8), DataOptions(**options))


# -- PNGs that libpng decodes in Pillow's place ------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1"])
def test_libpng_gives_what_pillow_gives(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """Of whole files, and of files with bytes changed or missing at the end: the same pixels, or no picture."""
    rng = np.random.default_rng(0)
    whole = encoded(Image.fromarray(rng.integers(0, 256, (8, 9, 4), np.uint8), "RGBA").convert(mode), "PNG")
    files = [whole]
    for _ in range(400):
        damaged = np.frombuffer(whole, np.uint8).copy()
        places = rng.integers(8, len(whole), rng.integers(1, 4))
        damaged[places] = rng.integers(0, 256, len(places))
        files.append(damaged.tobytes()[: rng.integers(20, len(whole))] if rng.random() < 0.3 else damaged.tobytes())
    options = DataOptions(8, "crop", "white", channels=3)
    found = [converted(data, options) for data in files]
    assert isinstance(decode.open_picture(whole), plain.Plain) == (mode not in "P1")
    monkeypatch.setattr(plain, "of_png", lambda *_: None)
    expected = [converted(data, options) for data in files]
    assert all(same(*pair) for pair in zip(found, expected, strict=True))


def converted(data: bytes, options: DataOptions) -> tuple[Any, Any]:
    """Header and pixels of a file, or why there are none."""
    header = None
    try:
        picture = decode.open_picture(data)
        header = decode.header(picture)
        return header, decode.row(picture, options)
    except decode.BadImageError as error:
        return header, str(error)


def same(one: tuple[Any, Any], other: tuple[Any, Any]) -> bool:
    return one[0] == other[0] and type(one[1]) is type(other[1]) and np.array_equal(one[1], other[1])


def test_libpng_is_used_for_plain_files_only() -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    for options, is_plain in (({}, True), ({"exif": exif}, False), ({"transparency": (1, 2, 3)}, False)):
        opened = decode.open_picture(encoded(picture, "PNG", **options))
        assert isinstance(opened, plain.Plain) == is_plain
