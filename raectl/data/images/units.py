"""Stored values, and what they stand for: bytes to look at, or values of the source's own type and units."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from raectl.data.options import DataOptions
from raectl.data.values import STORED, Range, chosen, kind_of, top_of


def to_bytes(items: np.ndarray) -> np.ndarray:
    """Stored values as bytes, to look at: round(v / 257) of uint16; uint8 as it is."""
    return items if items.dtype == np.uint8 else ((items.astype(np.uint32) + 128) // 257).astype(np.uint8)


def from_bytes(items: np.ndarray, bits: int | None) -> np.ndarray:
    """Bytes as they are stored in some bits: 257 v in 16; what is no byte as it is."""
    return items.astype(np.uint16) * np.uint16(257) if bits == 16 and items.dtype == np.uint8 else items


@dataclass(frozen=True)
class Units:
    """What stored values stand for in the source.

    Arguments:
        range: the source's values that are stored as 0 and as the greatest value.
        bits: 8 or 16.
        dtype: the type of the source's values.

    Example:
        >>> Units(Range(-1000, 3000), 16, np.dtype(np.int16)).to_source(np.array([0, 65535], np.uint16)).tolist()
        [-1000, 3000]
    """

    range: Range
    bits: int
    dtype: np.dtype

    @classmethod
    def of(cls, options: DataOptions) -> "Units":
        """Those of resolved options."""
        dtype = np.dtype(options.dtype or np.uint8)
        return cls(chosen(options.range, kind_of(dtype)) or Range(0.0, 255.0), options.bits or 8, dtype)

    @property
    def are_stored(self) -> bool:
        """Whether stored values are the source's own."""
        return self.dtype == STORED[self.bits] and self.range == (0, top_of(self.bits))

    def to_source(self, items: np.ndarray) -> np.ndarray:
        """Stored values => the source's, of its type."""
        return items if self.are_stored else self._restored[items]

    def to_stored(self, values: np.ndarray) -> np.ndarray:
        """The source's values => stored ones."""
        return values if self.are_stored else self.range.scaled(values, self.bits)

    @cached_property
    def _restored(self) -> np.ndarray:
        return self.range.restored(self.bits, self.dtype)
