"""Images whose values are wider than bytes, or signed, as arrays: Pillow would cut, wrap or invert them, or refuse.

PNG of 16 bits is read by imagecodecs, TIFF by tifffile, and what else has wider values by Pillow.
"""

import io
import math
from collections.abc import Callable
from functools import cached_property

import numpy as np
from PIL import Image

from raectl.data.values import FLOATS, INTEGERS, Extremes, Range, extremes

_PNG, _TIFF = b"\x89PNG\r\n\x1a\n", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_DEPTH, _CHANNELS_OF_PNG = 24, {0: 1, 2: 3, 4: 2, 6: 4}  # where a PNG says its bits; channels by its type of colour
_ORIENTATION, _UPRIGHT = 274, 1  # the tag, and its usual value
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ALPHA = (1, 2)  # extra samples of a TIFF that are alpha, multiplied into the colours or not
_BAND = 2**20  # values converted at a time
_MOST_BYTES = 2**29  # of all values


class Wide:
    """An image that is not read yet.

    Arguments:
        read: its values, (height, width, channels), integers or floats.
        size: (width, height), before it is turned upright.
        channels: 1 (grey) or 3 (colour), and one more with alpha, the last.
        kind: integers or floats.
        bits: of a value, as the file declares them.
        white_is_zero: whether the least value is white.
        orientation: as EXIF numbers them.
        frames: how many the file has; this is the first.
    """

    def __init__(
        self,
        read: Callable[[], np.ndarray],
        size: tuple[int, int],
        channels: int,
        kind: str,
        bits: int | None = None,
        *,
        white_is_zero: bool = False,
        orientation: int = _UPRIGHT,
        frames: int = 1,
    ) -> None:
        self.frames = frames
        self._read, self._size, self._channels, self.kind, self._bits = read, size, channels, kind, bits
        self._white_is_zero, self._orientation = white_is_zero, orientation

    @property
    def size(self) -> tuple[int, int]:
        """(width, height), upright."""
        width, height = self._size
        return (height, width) if self._orientation >= 5 else (width, height)

    @property
    def is_grey(self) -> bool:
        """Whether it has no colour."""
        return self._channels < 3

    @cached_property
    def _values(self) -> np.ndarray:
        if (nbytes := math.prod(self._size) * self._channels * (8 if self.kind == FLOATS else 2)) > _MOST_BYTES:
            raise ValueError(f"{nbytes:,} bytes of values are too many")
        width, height = self._size
        return self._read().reshape(height, width, -1)

    def _bands(self) -> list[slice]:
        rows = max(1, _BAND // (self._size[0] * self._channels))
        return [slice(top, top + rows) for top in range(0, self._size[1], rows)]

    def extremes(self) -> Extremes:
        """The least and the greatest value, of colours.

        Raises:
            ValueError: one is not finite.
        """
        colours = self._values[..., : 1 if self.is_grey else 3]
        return extremes((colours[band] for band in self._bands()), self.kind, self._bits)

    def image(self, chosen: Range | None) -> Image.Image:
        """The upright image in mode L, LA, RGB or RGBA, its range brought to bytes; of itself, if none is chosen."""
        chosen = chosen or Range.of(self.kind, self.extremes())
        colours = 1 if self.is_grey else 3
        rows: np.ndarray = np.empty(self._values.shape, np.uint8)
        for band in self._bands():
            rows[band, :, :colours] = chosen.to_bytes(self._values[band, :, :colours])
            rows[band, :, colours:] = _opaque(self._values.dtype).to_bytes(self._values[band, :, colours:])
        if self._white_is_zero:
            np.subtract(255, rows[..., :colours], out=rows[..., :colours])
        upright = Image.fromarray(rows[..., 0] if rows.shape[-1] == 1 else rows)
        turn = _TURNS.get(self._orientation)
        return upright if turn is None else upright.transpose(turn)


def _opaque(dtype: np.dtype) -> Range:
    return Range(0.0, 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max))


def is_tiff(data: bytes) -> bool:
    """Whether these are the bytes of a TIFF."""
    return data[:4] in _TIFF


def of_tiff(data: bytes) -> Wide | None:
    """A TIFF's first page; None if its values are bytes that Pillow reads as they are.

    Raises:
        ValueError: it has channels of which nothing says what they are.
    """
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        assert isinstance(page, tifffile.TiffPage)
        samples, dtype = page.samplesperpixel, page.dtype
        if dtype is None:
            raise ValueError(f"values of {page.bitspersample} bits are of no known type")
        alpha = sum(extra in _ALPHA for extra in page.extrasamples)
        plain = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.RGB)
        if samples > 4 or (samples in (2, 4) and not alpha and page.photometric in plain):
            raise ValueError(f"{samples} channels, and nothing says that the last one is alpha")
        if dtype.kind == "b" or dtype == np.uint8:
            return None
        orientation = page.tags.get(_ORIENTATION)
        return Wide(
            lambda: _of_page(data),
            (page.imagewidth, page.imagelength),
            samples,
            FLOATS if dtype.kind == "f" else INTEGERS,
            page.bitspersample if page.bitspersample % 8 else None,
            white_is_zero=page.photometric == tifffile.PHOTOMETRIC.MINISWHITE,
            orientation=orientation.value if orientation else _UPRIGHT,
            frames=len(file.pages),
        )


def _of_page(data: bytes) -> np.ndarray:
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        values: np.ndarray = page.asarray()
        return np.moveaxis(values, 0, -1) if page.axes.startswith("S") else values


def png_bits(data: bytes) -> int:
    """Of a value, as a PNG's header says."""
    return data[_DEPTH]


def of_png(data: bytes, image: Image.Image, orientation: int) -> Wide | None:
    """A PNG that Pillow has opened; None if its values are bytes."""
    if image.format != "PNG" or png_bits(data) != 16:
        return None

    def read() -> np.ndarray:
        from imagecodecs import png_decode

        return np.asarray(png_decode(data))

    channels = _CHANNELS_OF_PNG[data[_DEPTH + 1]]
    return Wide(read, image.size, channels, INTEGERS, _significant_bits(data), orientation=orientation)


def _significant_bits(data: bytes) -> int | None:
    """Of the chunk sBIT, which comes before the pixels; None if the channels differ or nothing is said."""
    start = len(_PNG)
    while (name := data[start + 4 : start + 8]) not in (b"IDAT", b""):
        length = int.from_bytes(data[start : start + 4], "big")
        if name == b"sBIT":
            said = {*data[start + 8 : start + 8 + length]}
            return said.pop() if len(said) == 1 else None
        start += 12 + length
    return None


def of_mode(image: Image.Image) -> Wide | None:
    """An image of another format that Pillow has opened; None if its values are bytes."""
    if not (image.mode.startswith("I") or image.mode == "F"):
        return None
    return Wide(lambda: np.asarray(image), image.size, 1, FLOATS if image.mode == "F" else INTEGERS)
