"""Images whose values are wider than bytes, or signed, as arrays: Pillow would cut, wrap or invert them, or refuse."""

import math
from collections.abc import Callable
from functools import cached_property

import numpy as np
from PIL import Image

from raectl.data.values import FLOATS, Extremes, NotFiniteError, Range, extremes

UPRIGHT = 1  # of EXIF's orientations
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BAND = 2**20  # values converted at a time
_MOST_BYTES = 2**29  # of all values
_NARROWER = {float(2**bits - 1) for bits in (10, 12, 14)}  # greatest values of such bits, stored in 16


class Wide:
    """An image that is not read yet.

    Arguments:
        read: its values, (height, width, channels), integers or floats.
        size: (width, height), before it is turned upright.
        channels: 1 (grey) or 3 (colour), and one more with alpha, the last.
        kind: integers or floats.
        bits: of a value, as the file declares them.
        white_is_zero: whether the least value is white.
        premultiplied: whether alpha is multiplied into the colours.
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
        premultiplied: bool = False,
        orientation: int = UPRIGHT,
        frames: int = 1,
    ) -> None:
        self.frames = frames
        self._read, self._size, self._channels, self.kind, self._bits = read, size, channels, kind, bits
        self._white_is_zero, self._orientation = white_is_zero, orientation
        self._premultiplied = premultiplied

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
        values = self._read().reshape(height, width, -1)
        return _straight(values, self._opaque(values)) if self._premultiplied else values

    def _opaque(self, values: np.ndarray) -> float:
        """The value of alpha, the last channel, that is opaque: that of fewer bits where the values look like these.

        They do if none is above what the file declares, or if the greatest is exactly the greatest of 10, 12 or 14.
        """
        found = float(values[..., -1].max(initial=0))
        if self.kind == FLOATS:
            return opaque(values.dtype).high
        if self._bits and found <= 2**self._bits - 1:
            return float(2**self._bits - 1)
        return found if found in _NARROWER else opaque(values.dtype).high

    def _bands(self) -> list[slice]:
        rows = max(1, _BAND // (self._size[0] * self._channels))
        return [slice(top, top + rows) for top in range(0, self._size[1], rows)]

    def extremes(self) -> Extremes:
        """The least and the greatest value, of colours that can be seen.

        Raises:
            ValueError: one is not finite.
        """
        values, colours = self._values, 1 if self.is_grey else 3
        seen = values[..., :colours]
        if self._channels > colours and (visible := values[..., -1] > 0).any():
            seen = seen[visible]
        try:
            return extremes([seen[None]], self.kind, self._bits)
        except NotFiniteError as error:
            row, column, *_ = np.unravel_index(error.first, seen.shape)
            where = f", the first in row {row}, column {column}" if seen.ndim == values.ndim else ""
            raise ValueError(f"{error}{where}") from error

    def image(self, chosen: Range | None) -> Image.Image:
        """The upright image in mode L, LA, RGB or RGBA, its range brought to bytes; of itself, if none is chosen."""
        chosen = chosen or Range.of(self.kind, self.extremes())
        colours = 1 if self.is_grey else 3
        alpha = Range(0.0, self._opaque(self._values))
        rows: np.ndarray = np.empty(self._values.shape, np.uint8)
        for band in self._bands():
            rows[band, :, :colours] = chosen.to_bytes(self._values[band, :, :colours])
            rows[band, :, colours:] = alpha.to_bytes(self._values[band, :, colours:])
        if self._white_is_zero:
            np.subtract(255, rows[..., :colours], out=rows[..., :colours])
        upright = Image.fromarray(rows[..., 0] if rows.shape[-1] == 1 else rows)
        turn = _TURNS.get(self._orientation)
        return upright if turn is None else upright.transpose(turn)


def opaque(dtype: np.dtype) -> Range:
    """The values of alpha that are transparent and opaque, of a type."""
    return Range(0.0, 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max))


def _straight(values: np.ndarray, top: float) -> np.ndarray:
    """Values whose colours are divided by their alpha, the last channel, which is `top` at most; 0 where it is 0."""
    alpha = values[..., -1:].astype(np.float64)
    colours = values[..., :-1] * np.divide(top, alpha, out=np.zeros_like(alpha), where=alpha > 0)
    if values.dtype.kind != "f":
        colours = np.rint(colours).clip(0, top)
    return np.concatenate([colours.astype(values.dtype), values[..., -1:]], axis=-1)
