"""The options of opening a source."""

from dataclasses import dataclass

import numpy as np

from raectl.config import MOST_CHANNELS, SourceOptions, bands, declared

# Filled in for the kind of data that has them.
RESOLVED = ("image_size", "background", "range", "grammar", "max_productions")
_TYPES = (
    *("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64"),
)


@dataclass(frozen=True)
class DataOptions(SourceOptions):
    """How a source's items are brought to one shape. `None` leaves the choice to the source.

    Resolved, `range` has that of each kind of values that the source has, None if they are bytes as they are, `bits`
    and `dtype` say in what images are stored and what they were before, and `grammar` is a text.
    """

    channels: int | None = declared(None, "Channels, where the data must suit a model.", low=1, high=MOST_CHANNELS)
    bits: int | None = declared(None, "Bits of a stored value, where the data must suit a model.", choices=(8, 16))
    dtype: str | None = declared(None, "The type of the source's own values.", choices=_TYPES)
    bands: str | None = bands()

    @property
    def form(self) -> dict[str, int | str | None]:
        """The options that determine the items' bytes: all but the tolerance of bad items, and what pictures show."""
        return {name: value for name, value in vars(self).items() if name not in ("max_bad", "strict", "bands")}

    @property
    def stored(self) -> np.dtype:
        """The type of stored values, from resolved options."""
        return np.dtype(np.uint16 if self.bits == 16 else np.uint8)
