"""What a checkpoint remembers of its data."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from msgspec import Meta

from raectl import registry
from raectl.config import MOST_CHANNELS
from raectl.data import IN_MEMORY, DataOptions, Dataset, limits
from raectl.errors import RaectlError

_MAX_VALUES = 512 * 512 * MOST_CHANNELS  # of one item


@dataclass(frozen=True)
class DataSummary:
    """What a checkpoint remembers of its data: enough to open them again, and to know whether they are the same.

    Arguments:
        source: as it was opened.
        modality: registry name.
        fingerprint: SHA-256 of the items' bytes.
        n: number of items.
        shape: of one item as stored.
        options: how items are brought to that shape.
    """

    source: str
    modality: str
    fingerprint: str
    n: Annotated[int, Meta(ge=1)]
    shape: tuple[int, ...]
    options: DataOptions

    @classmethod
    def of(cls, dataset: Dataset) -> "DataSummary":
        """The summary of a data set."""
        shape = tuple(dataset.items.shape[1:])
        return cls(dataset.source, dataset.modality, dataset.fingerprint, len(dataset), shape, dataset.options)

    def __post_init__(self) -> None:
        if b"\0" in os.fsencode(self.source):  # which raises a ValueError if no file can have that name
            raise ValueError("data.source is no name of a file")
        if not all(side > 0 for side in self.shape) or np.prod(self.shape, dtype=float) > _MAX_VALUES:
            raise ValueError(f"data.shape {self.shape} is out of range")
        registry.check("modality", self.modality)
        limits.check(self.options)
        limits.check_bands(replace(self.options, channels=self.shape[-1]), self.source)
        if "->" not in (self.options.grammar or "->"):  # a name or a path may only be typed
            raise ValueError("the grammar is no text of one")

    def recorded(self) -> str:
        """The source, to be opened again.

        Raises:
            RaectlError: it is a pipe or a device, on which a hostile checkpoint could make us wait for ever.
        """
        if self.source == IN_MEMORY:
            raise RaectlError("they were an array in memory, which is not kept", "give it again: source=ARRAY")
        path = Path(self.source)
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise RaectlError(f"{self.source} is neither a file nor a folder", "name the data: --data SOURCE")
        return self.source
