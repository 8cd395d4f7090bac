"""What every source becomes: one array of bytes, where it came from, and what had to be done to it."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from raectl.data.options import RESOLVED, DataOptions
from raectl.errors import UsageError
from raectl.rng import permutation

_SPLIT = 2  # second half of the generator's key; `raectl.rng` has the others
_CHUNK = 64 * 2**20  # bytes hashed at a time, so that a memory-mapped array is never read whole into memory


@dataclass(frozen=True)
class Dataset:
    """One uint8 array view of a source's items, and what is known of them.

    Arguments:
        items: (N, *stored shape) uint8, possibly memory-mapped; for images (N, H, W, C).
        modality: registry name of the modality that knows what an item is.
        source: the source as it can be opened again: an absolute path, or a name such as `digits`.
        options: the options in force, resolved, such that opening `source` with them gives these items again.
        names: a name per item, unique, for messages and output files; empty where the source has none.
        labels: (N,) index into `classes` per item, or None.
        classes: names of the classes.
        notes: sentences to tell the user (what was resized, what was skipped).
        skipped: (name, reason) of every item that could not be read.
        what: the items are, in messages.
        sizes: the numbers of an item's shape are, in messages.
    """

    items: np.ndarray
    modality: str
    source: str
    options: DataOptions = field(default_factory=DataOptions)
    names: tuple[str, ...] = ()
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    known_fingerprint: str | None = None
    what: str = "images"
    sizes: str = "(height, width, channels)"

    def __len__(self) -> int:
        return len(self.items)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the items' shape and bytes: equal data have equal fingerprints, wherever they came from."""
        if self.known_fingerprint is None:
            object.__setattr__(self, "known_fingerprint", fingerprint(self.items))
        assert self.known_fingerprint is not None
        return self.known_fingerprint

    def refuse_unused(self, given: Any) -> None:
        """Raise a `UsageError` if an option of `given`, by the names of `DataOptions`, is for other data."""
        for name in RESOLVED:
            if getattr(given, name) is not None and getattr(self.options, name) is None:
                option = f"--{name.replace('_', '-')}"
                raise UsageError(f"{option} has no effect on {self.source}: these are {self.modality}")


def fingerprint(items: np.ndarray) -> str:
    """SHA-256 of the shape and the bytes of a uint8 array (N, ...), read in chunks."""
    digest = hashlib.sha256(repr(items.shape).encode())
    rows = max(1, _CHUNK // max(1, items[:1].nbytes))
    for start in range(0, len(items), rows):
        digest.update(np.ascontiguousarray(items[start : start + rows]).data)
    return digest.hexdigest()


def split(n: int, val_fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Disjoint, sorted indices of the training and validation items, a pure function of the arguments.

    At least one item is held out when `val_fraction` is above 0, and at least one is left for training.

    Example:
        >>> train, val = split(10, 0.1, seed=0)
        >>> len(train), len(val)
        (9, 1)
    """
    held_out = min(n - 1, max(1, round(n * val_fraction))) if val_fraction > 0 else 0
    order = permutation(seed, "split", n)
    return np.sort(order[held_out:]), np.sort(order[:held_out])
