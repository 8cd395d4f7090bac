"""The size of images: `N`, a square, or `HxW`, height times width."""

import re
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral
from typing import Any

from raectl.config.option import Option
from raectl.errors import UsageError

_FORM = re.compile(r"(-?\d{1,9})(?:x(-?\d{1,9}))?", re.ASCII)


@dataclass(frozen=True)
class Size(Option[int | str | None]):
    """Height and width of images in pixels, `low` to `high` each.

    The value is the side of a square, a whole number, or `HxW` for other shapes.

    Example:
        >>> size = Size(None, "Of images.", low=8, high=512)
        >>> size.check(64, "--image-size "), size.check("64x64", "--image-size "), size.check("96x64", "--image-size ")
        (64, 64, '96x64')
    """

    @property
    def kind(self) -> type:
        return str

    def check(self, value: Any, typed: str) -> int | str | None:
        """See `Option.check`; one value for each size."""
        if value is None:
            return None
        found = _read(value)
        if found is None:
            raise UsageError(f"{typed}{value!r} is neither N nor HxW, height x width", f"{typed}64, or {typed}96x64")
        if not all(map(self.holds, found)):
            assert self.low is not None
            assert self.high is not None
            nearest = as_size(*(int(min(max(side, self.low), self.high)) for side in found))
            raise UsageError(f"{typed}{as_size(*found)} is out of range: {self.limits()}", f"{typed}{nearest}")
        return as_size(*found)

    def limits(self) -> str:
        """The range in words."""
        return f"{super().limits()} a side"


def _read(value: Any) -> tuple[int, int] | None:
    """Height and width of a size in any form, whatever they are; None if it has none."""
    if not isinstance(value, bool) and isinstance(value, Integral):
        return int(value), int(value)
    match = _FORM.fullmatch(value) if isinstance(value, str) else None
    return (int(match[1]), int(match[2] or match[1])) if match else None


def as_size(height: int, width: int) -> int | str:
    """The size that has these sides, as options store it.

    Example:
        >>> as_size(64, 64), as_size(96, 64)
        (64, '96x64')
    """
    return height if height == width else f"{height}x{width}"


@lru_cache
def sides(size: int | str) -> tuple[int, int]:
    """Height and width, from a size as options store it.

    Example:
        >>> sides(64), sides("96x64")
        ((64, 64), (96, 64))
    """
    found = _read(size)
    if found is None:
        raise ValueError(f"{size!r} is no size of images")
    return found
