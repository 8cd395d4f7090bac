"""Images whose values are wider than bytes, or signed, as arrays: Pillow would cut, wrap or invert them, or refuse."""

import math
from collections.abc import Callable
from functools import cached_property

import numpy as np
from PIL import Image

from raectl.data.values import (
    BYTES,
    FLOATS,
    STORED,
    Extremes,
    NotFiniteError,
    Range,
    extremes,
    finite,
    greatest_alpha,
    top_of,
)

UPRIGHT = 1  # of EXIF's orientations
# What turns an image of an orientation upright, (H, W, C) => (H or W, W or H, C).
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda rows: rows[:, ::-1],
    3: lambda rows: rows[::-1, ::-1],
    4: lambda rows: rows[::-1],
    5: lambda rows: rows.swapaxes(0, 1),
    6: lambda rows: rows[::-1].swapaxes(0, 1),
    7: lambda rows: rows[::-1, ::-1].swapaxes(0, 1),
    8: lambda rows: rows[:, ::-1].swapaxes(0, 1),
}
_OF_BYTES = Range(0.0, 255.0)
_BAND = 2**20  # values converted at a time
_MOST_BYTES = 2**29  # of all values
_NARROWER = tuple(float(2**bits - 1) for bits in (8, 10, 12, 14, 16))  # greatest values of bits stored in more
_NEARLY = 0.01  # of such a value, by which alpha may stay below it


class Wide:
    """An image that is not read yet.

    Arguments:
        read: its values, (height, width, channels), integers or floats.
        size: (width, height), before it is turned upright.
        channels: of its values, alpha among them.
        kind: integers or floats; bytes, which are taken as they are, where there are other channels than colours.
        colours: channels without alpha, which is the last one where they are fewer; 1 (grey) or 3 (colour) by default.
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
        colours: int | None = None,
        white_is_zero: bool = False,
        premultiplied: bool = False,
        orientation: int = UPRIGHT,
        frames: int = 1,
    ) -> None:
        self.frames = frames
        self._read, self._size, self._channels, self.kind, self._bits = read, size, channels, kind, bits
        self._white_is_zero, self._orientation = white_is_zero, orientation
        self._premultiplied = premultiplied
        self.colours = colours or (1 if channels < 3 else 3)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height), upright."""
        width, height = self._size
        return (height, width) if self._orientation >= 5 else (width, height)

    @property
    def has_alpha(self) -> bool:
        """Whether the last channel is alpha."""
        return self._channels > self.colours

    @cached_property
    def _values(self) -> np.ndarray:
        if (nbytes := math.prod(self._size) * self._channels * (8 if self.kind == FLOATS else 2)) > _MOST_BYTES:
            raise ValueError(f"{nbytes:,} bytes of values are too many")
        width, height = self._size
        values = self._read().reshape(height, width, -1)
        return _straight(values, self._opaque(values)) if self._premultiplied else values

    def _opaque(self, values: np.ndarray) -> float:
        """The value of alpha, the last channel, that is opaque: that of the bits that the file declares, or `opaque`'s.

        Of an image of its own, since few files differ.
        """
        greatest = float(values[..., -1].max(initial=0))
        if self.kind != FLOATS and self._bits and greatest <= 2**self._bits - 1:
            return float(2**self._bits - 1)
        return opaque(values.dtype, greatest, lambda: float(values.max(initial=0))).high

    def _bands(self) -> list[slice]:
        rows = max(1, _BAND // (self._size[0] * self._channels))
        return [slice(top, top + rows) for top in range(0, self._size[1], rows)]

    def extremes(self) -> Extremes:
        """The least and the greatest value, of colours that can be seen.

        Raises:
            ValueError: one is not finite.
        """
        values = self._values
        seen = values[..., : self.colours]
        try:
            if self.has_alpha:
                greatest_alpha([values[..., -1]])
                visible = values[..., -1] > 0
                seen = seen[visible] if visible.any() else finite(seen)
            return extremes([seen[None]], self.kind, self._bits)
        except NotFiniteError as error:
            row, column, *_ = np.unravel_index(error.first, values.shape[:2] if error.of_alpha else seen.shape)
            where = f", the first in row {row}, column {column}" if error.of_alpha or seen.ndim == values.ndim else ""
            raise ValueError(f"{error}{where}") from error

    def rows(self, chosen: Range | None, bits: int = 8) -> np.ndarray:
        """The upright image as it is stored in some bits, (height, width, channels), alpha among these.

        Arguments:
            chosen: the range; None for that of the image itself, and for bytes as they are.
        """
        values, colours = self._values, self.colours
        chosen = chosen or (_OF_BYTES if self.kind == BYTES else Range.of(self.kind, self.extremes()))
        alpha = Range(0.0, self._opaque(values)) if self.has_alpha else None
        rows: np.ndarray = np.empty(values.shape, STORED[bits])
        for band in self._bands():
            rows[band, :, :colours] = chosen.scaled(values[band, :, :colours], bits)
            if alpha:
                rows[band, :, colours:] = alpha.scaled(values[band, :, colours:], bits)
        if self._white_is_zero:
            np.subtract(top_of(bits), rows[..., :colours], out=rows[..., :colours])
        turn = _TURNS.get(self._orientation)
        return rows if turn is None else np.ascontiguousarray(turn(rows))

    def image(self, chosen: Range | None) -> Image.Image:
        """The upright image in mode L, LA, RGB or RGBA, its range brought to bytes; of itself, if none is chosen."""
        rows = self.rows(chosen)
        return Image.fromarray(rows[..., 0] if rows.shape[-1] == 1 else rows)


def orientation_of(value: object) -> int:
    """The orientation that a file says; upright if that is none."""
    return value if isinstance(value, int) and value in _TURNS else UPRIGHT


def opaque(dtype: np.dtype, greatest: float, all_greatest: Callable[[], float]) -> Range:
    """The values of alpha that are transparent and opaque.

    The latter is the greatest one of the type, of floats 1; or that of so many bits if alpha is at most that and nearly
    reaches it, of 8 bits only if no colour is above these either.

    Arguments:
        dtype: of the values.
        greatest: value of alpha.
        all_greatest: gives that of colours and alpha.

    Example:
        >>> opaque(np.dtype(np.uint16), 4094, lambda: 4095)
        Range(low=0.0, high=4095.0)
    """
    most = 1.0 if dtype.kind in "fb" else float(np.iinfo(dtype).max)
    for top in _NARROWER:
        nearly = (1 - _NEARLY) * top <= greatest <= top and (top < most or dtype.kind == "f")
        if nearly and (top > 255 or all_greatest() <= top):
            return Range(0.0, top)
    return Range(0.0, most)


def _straight(values: np.ndarray, top: float) -> np.ndarray:
    """Values whose colours are divided by their alpha, the last channel, which is `top` at most; 0 where it is 0."""
    alpha = values[..., -1:].astype(np.float64)
    colours = values[..., :-1] * np.divide(top, alpha, out=np.zeros_like(alpha), where=alpha > 0)
    if values.dtype.kind != "f":
        colours = np.rint(colours).clip(0, top)
    return np.concatenate([colours.astype(values.dtype), values[..., -1:]], axis=-1)
