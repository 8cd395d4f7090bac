"""The file formats that hold values wider than bytes: TIFF, PNG, PNM and JPEG 2000, and others that Pillow reads."""

import contextlib
import io
import itertools
import math
import re
import struct
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, NamedTuple, cast

import numpy as np
from PIL import Image, UnidentifiedImageError

from raectl.config import MOST_CHANNELS
from raectl.data import limits
from raectl.data.images.wide import UPRIGHT, Wide, orientation_of
from raectl.data.values import BYTES, FLOATS, INTEGERS

if TYPE_CHECKING:
    import tifffile

_PNG = b"\x89PNG\r\n\x1a\n"
_DEPTH, _CHANNELS_OF_PNG = 24, {0: 1, 2: 3, 4: 2, 6: 4}  # where a PNG says its bits; channels by its type of colour
_ORIENTATION, _BITS, _FORMAT, _SAMPLES, _SUBFILE, _IMAGE_DEPTH = 274, 258, 339, 277, 254, 32997  # tags
_STRIPS, _TILES, _TILE_SIZE, _ROWS = (273, 279), (324, 325), (322, 323), 278  # places and bytes of each; its sides
_WIDTH, _HEIGHT, _COMPRESSION, _PLANES, _APART, _OLD_JPEG = 256, 257, 259, 284, 2, 6
_PREMULTIPLIED, _ALPHA = 1, (1, 2)  # extra samples of a TIFF that are alpha, multiplied into the colours or not
# Formats of segments that are images, bytes of one that have its header, and how much larger one may be than it should.
_SEGMENTS, _HEAD, _SLACK = ("JPEG", "JPEG2000", "PNG", "WEBP"), 2**16, 4
_NUMBERS = ("imagewidth", "imagelength", "imagedepth", "samplesperpixel", "tilewidth", "tilelength", "tiledepth")
_LARGEST_TILE = 2**28  # bytes
_GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
_PNM = re.compile(rb"P([2356])" + 3 * (_GAP + rb"(\d{1,9})") + rb"\s")
_SIZ, _COMPONENTS = b"\xff\x4f\xff\x51", 40  # where a JPEG 2000 says its number of components, then their bits
_MODES_OF_JPEG2000 = {"LA": 2, "RGB": 3, "RGBA": 4}  # channels of those that Pillow cuts to bytes


class _Directories(NamedTuple):
    """How a TIFF's directories of tags are written: struct formats, and bytes of a tag."""

    first: int  # where the file says the place of the first one
    place: str
    length: str
    tag: int


_CLASSIC, _BIG = _Directories(4, "I", "H", 12), _Directories(8, "Q", "Q", 20)
MOST_PAGES = 100_000


def is_tiff(data: bytes) -> bool:
    """Whether these are the bytes of a TIFF."""
    return data.startswith(limits.TIFF)


def page_offsets(data: bytes | memoryview, most: int = MOST_PAGES + 1) -> list[int]:
    """Where the directories of a TIFF's pages are, each once; as far as they are whole, and not more than `most`."""
    order, form = "<" if bytes(data[:2]) == b"II" else ">", _BIG if 43 in data[2:4] else _CLASSIC
    count, place = struct.Struct(order + form.length), struct.Struct(order + form.place)
    found: dict[int, None] = {}
    at = form.first
    while len(found) < most and at + place.size <= len(data):
        (offset,) = place.unpack_from(data, at)
        if not 0 < offset <= len(data) - count.size or offset in found:  # the end, or a circle
            break
        found[offset] = None
        at = offset + count.size + form.tag * count.unpack_from(data, offset)[0]
    return [*found]


class PageFile(io.RawIOBase):
    """A TIFF whose first page is another one of it: its bytes, with that page's place in the header; not copied."""

    def __init__(self, data: bytes, offset: int) -> None:
        form = _BIG if 43 in data[2:4] else _CLASSIC
        place = struct.pack(("<" if data[:2] == b"II" else ">") + form.place, offset)
        self._data, self._head, self._at = memoryview(data), data[: form.first] + place, 0

    def readable(self) -> bool:
        """See `io.IOBase`."""
        return True

    def seekable(self) -> bool:
        """See `io.IOBase`."""
        return True

    def tell(self) -> int:
        """See `io.IOBase`."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """See `io.IOBase`."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._data)}[whence]
        self._at = max(0, start + offset)
        return self._at

    def read(self, size: int = -1) -> bytes:
        """See `io.RawIOBase`."""
        stop = len(self._data) if size is None or size < 0 else self._at + size
        chunk = self._head[self._at : stop] + self._data[max(self._at, len(self._head)) : stop]
        self._at += len(chunk)
        return chunk

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        """See `io.RawIOBase`."""
        view = memoryview(buffer).cast("B")
        chunk = self.read(len(view))
        view[: len(chunk)] = chunk
        return len(chunk)


def is_plain_tiff(image: Image.Image) -> bool:
    """Whether a TIFF that Pillow has opened is a page of bytes without alpha: one that it reads as it is."""
    bits, formats = (image.tag_v2.get(tag, (1,)) for tag in (_BITS, _FORMAT))  # type: ignore[attr-defined]
    reduced, depth, samples = (
        image.tag_v2.get(tag, usual)  # type: ignore[attr-defined]
        for tag, usual in ((_SUBFILE, 0), (_IMAGE_DEPTH, 1), (_SAMPLES, 1))
    )
    return max(bits) <= 8 and {*formats} == {1} and not reduced & 1 and depth == 1 and samples in (1, 3)


def of_tiff(data: bytes, page: int | None = None, *, with_bytes: bool = False) -> Wide | None:
    """A page of a TIFF; None if its values are bytes, which Pillow reads as they are.

    Arguments:
        page: where its directory is; None for the first one.
        with_bytes: bytes too, where Pillow does not know what they are.

    Raises:
        ValueError: its channels, or its kind of page, cannot be taken for an image's.
    """
    import tifffile

    file = tifffile.TiffFile(cast(IO[bytes], tiff_file(data, page)))  # open until the page has been read
    if file.pages.first.is_reduced:
        raise ValueError("its first page is a reduced image" if page is None else "a reduced image")
    return _of_page(file.pages.first, 1 if page is not None else len(page_offsets(data)), with_bytes=with_bytes)


def tiff_file(data: bytes, page: int | None) -> "io.BytesIO | PageFile":
    """A file of these bytes, whose first page is that with its directory at `page`, if there is one given."""
    return io.BytesIO(data) if page is None else PageFile(data, page)


def _of_page(page: "tifffile.TiffPage", frames: int, *, with_bytes: bool) -> Wide | None:
    import tifffile

    numbers = {name: getattr(page, name) for name in _NUMBERS}
    if odd := next((name for name, value in numbers.items() if not isinstance(value, int) or value < 0), None):
        raise ValueError(f"its {odd} is no number")
    samples, dtype, photometric = page.samplesperpixel, page.dtype, page.photometric
    alpha = [extra for extra in page.extrasamples if extra in _ALPHA]
    if page.imagedepth > 1:
        raise ValueError(f"a volume of {page.imagedepth:,} slices")
    if dtype is None or dtype.kind not in "biuf":
        raise ValueError(f"values of {page.bitspersample} bits that are no real numbers")
    plain = photometric in (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.RGB)
    if samples > MOST_CHANNELS:
        raise ValueError(f"{samples} channels are more than {MOST_CHANNELS}")
    if page.tilewidth * page.tilelength * page.tiledepth * samples * dtype.itemsize > _LARGEST_TILE:
        raise ValueError(f"tiles of {page.tilewidth}x{page.tilelength} pixels are too large")
    # Alpha is one of two or four channels, and named as such; a file of other numbers is one of bands.
    has_bands = plain and (samples > 4 or (samples in (2, 4) and not alpha))
    if (dtype.kind == "b" or dtype == np.uint8) and not with_bytes and not has_bands:
        return None
    if not plain:
        name = getattr(photometric, "name", photometric)
        raise ValueError(f"{page.bitspersample} bits of {name}, which are read of 8 bits only")
    orientation = page.tags.get(_ORIENTATION)
    return Wide(
        lambda: _values(page),
        (page.imagewidth, page.imagelength),
        samples,
        FLOATS if dtype.kind == "f" else BYTES if has_bands and dtype == np.uint8 else INTEGERS,
        page.bitspersample if page.bitspersample % 8 else None,
        colours=samples if has_bands else None,
        white_is_zero=photometric == tifffile.PHOTOMETRIC.MINISWHITE,
        premultiplied=_PREMULTIPLIED in alpha and not has_bands,
        orientation=orientation_of(orientation.value if orientation else UPRIGHT),
        frames=frames,
    )


def _values(page: "tifffile.TiffPage") -> np.ndarray:
    _refuse_missing_segments(page)
    _refuse_large_segments(page)
    values: np.ndarray = page.asarray()
    return np.moveaxis(values, 0, -1) if page.axes.startswith("S") else values


def _refuse_missing_segments(page: "tifffile.TiffPage") -> None:
    counts, wanted = page.databytecounts, math.prod(page.chunked)
    if page.is_contiguous and sum(counts) >= page.nbytes:  # in one piece, whatever its rows
        return
    is_one = page.is_contiguous and wanted == 1  # whose bytes are known
    _refuse_missing(page.dataoffsets, page.dataoffsets if is_one else counts, wanted, is_tiled=page.is_tiled)


def refuse_missing_segments(image: Image.Image) -> None:
    """Raise a `ValueError` if a TIFF that Pillow has opened has strips or tiles without a place or bytes."""
    tags, (width, height) = image.tag_v2, image.size  # type: ignore[attr-defined]
    if tags.get(_COMPRESSION) == _OLD_JPEG:  # which may have neither
        return
    is_tiled = _TILES[0] in tags
    offsets, counts = (tags.get(tag, ()) for tag in (_TILES if is_tiled else _STRIPS))
    width, height = tags.get(_WIDTH, width), tags.get(_HEIGHT, height)  # before it is turned
    columns, rows = (tags.get(tag, 0) for tag in _TILE_SIZE) if is_tiled else (width, tags.get(_ROWS, height))
    wanted = math.ceil(width / max(1, columns)) * math.ceil(height / max(1, rows))
    planes = tags.get(_SAMPLES, 1) if tags.get(_PLANES, 1) == _APART else 1
    # Pillow goes by the places alone, or guesses the bytes of a single one.
    has_counts = counts and wanted * planes > 1 and tags.get(_COMPRESSION, 1) != 1
    _refuse_missing(offsets, counts if has_counts else offsets, wanted * planes, is_tiled=is_tiled)


def _refuse_missing(offsets: Sequence[int], counts: Sequence[int], wanted: int, *, is_tiled: bool) -> None:
    """Raise a `ValueError` unless so many strips or tiles have a place and bytes: readers would fill them with 0."""
    places = itertools.islice(zip(offsets, counts, strict=False), wanted)  # either may be too short
    found = sum(offset > 0 and count > 0 for offset, count in places)
    if found < wanted:
        raise ValueError(f"{wanted - found:,} of {wanted:,} {'tiles' if is_tiled else 'strips'} are missing")


def _refuse_large_segments(page: "tifffile.TiffPage") -> None:
    """Raise a `ValueError` if a strip or tile that is an image of its own is much larger than the page says.

    Of other compressions tifffile decodes no more bytes than a segment has pixels for.
    """
    import tifffile

    if page.compression not in tifffile.TIFF.IMAGE_COMPRESSIONS:
        return
    strip = page.imagewidth * min(page.rowsperstrip, page.imagelength)
    most, file = _SLACK * max(strip, page.tilewidth * page.tilelength), page.parent.filehandle
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        file.seek(offset)
        with contextlib.suppress(UnidentifiedImageError):  # of a format that Pillow does not know, or damaged
            image = Image.open(io.BytesIO(file.read(min(count, _HEAD))), formats=_SEGMENTS)
            if math.prod(image.size) > most:
                raise ValueError("a strip of {}x{} pixels is larger than its page".format(*image.size))


def png_bits(data: bytes) -> int:
    """Of a value, as a PNG's header says."""
    return data[_DEPTH]


def of_png(data: bytes, image: Image.Image) -> Wide | None:
    """A PNG that Pillow has opened; None if its values are bytes."""
    if image.format != "PNG" or png_bits(data) != 16:
        return None

    def read() -> np.ndarray:
        from imagecodecs import png_decode

        return np.asarray(png_decode(data))

    channels = _CHANNELS_OF_PNG[data[_DEPTH + 1]]
    chunks = [*_chunks(data)]
    # Wherever they are; Pillow decodes the pixels before it looks behind them.
    is_told = any(name == b"eXIf" or content.startswith(b"XML:com.adobe.xmp") for name, content in chunks)
    orientation = orientation_of(image.getexif().get(_ORIENTATION)) if is_told else UPRIGHT
    return Wide(read, image.size, channels, INTEGERS, _significant_bits(chunks), orientation=orientation)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The name of each chunk of a PNG, and its first bytes."""
    start = len(_PNG)
    while name := data[start + 4 : start + 8]:
        length = int.from_bytes(data[start : start + 4], "big")
        yield name, data[start + 8 : start + 8 + min(length, 32)]
        start += 12 + length


def _significant_bits(chunks: list[tuple[bytes, bytes]]) -> int | None:
    """Of the chunk sBIT; None if the channels differ or nothing is said."""
    said = {*dict(chunks).get(b"sBIT", b"")}
    return said.pop() if len(said) == 1 else None


def of_pnm(data: bytes) -> Wide | None:
    """A PGM or PPM, binary or of text; None if it is none, or its values are bytes."""
    header = _PNM.match(data)
    if header is None or (largest := int(header[4])) <= 255:
        return None
    kind, width, height = (int(header[group]) for group in (1, 2, 3))
    channels = 3 if kind in (3, 6) else 1
    count = width * height * channels

    def read() -> np.ndarray:
        if kind > 3:
            return np.frombuffer(data, ">u2", count, header.end())
        return np.array(data[header.end() :].split(None, count)[:count], np.uint16)

    # 65535 says no more than that there are two bytes a value.
    bits = largest.bit_length() if largest < 65535 and largest == 2 ** largest.bit_length() - 1 else None
    return Wide(read, (width, height), channels, INTEGERS, bits)


def of_jpeg2000(data: bytes, image: Image.Image) -> Wide | None:
    """A JPEG 2000 in colour, or with alpha, that Pillow has opened; None if its values are bytes."""
    if image.format != "JPEG2000" or image.mode not in _MODES_OF_JPEG2000 or (start := data.find(_SIZ)) < 0:
        return None
    components = int.from_bytes(data[start + _COMPONENTS : start + _COMPONENTS + 2], "big")
    bits = (data[start + _COMPONENTS + 2] & 127) + 1
    if bits <= 8 or components != _MODES_OF_JPEG2000[image.mode]:
        return None

    def read() -> np.ndarray:
        from imagecodecs import jpeg2k_decode

        return np.asarray(jpeg2k_decode(data))

    return Wide(read, image.size, components, INTEGERS, bits if bits % 8 else None)


def of_mode(image: Image.Image) -> Wide | None:
    """An image of another format that Pillow has opened; None if its values are bytes."""
    if not (image.mode.startswith("I") or image.mode == "F"):
        return None
    return Wide(lambda: np.asarray(image), image.size, 1, FLOATS if image.mode == "F" else INTEGERS)
