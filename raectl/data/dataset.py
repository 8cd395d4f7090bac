"""A dataset: the items of a source as one uint8 array, with names, labels and the options that produced it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from raectl.data.options import RESOLVED, DataOptions
from raectl.errors import UsageError
from raectl.rng import permutation

_CHUNK = 64 * 2**20  # bytes hashed at a time, so that a memory-mapped array is never read whole into memory


@dataclass(frozen=True)
class Dataset:
    """The items of a source, (N, *stored shape) uint8.

    Arguments:
        items: (N, *stored shape) uint8, possibly memory-mapped; for images (N, H, W, C).
        modality: registry name of the items' modality.
        source: an absolute path, or a name such as `digits`, with which the source can be opened again.
        options: the resolved options; opening `source` with them gives the same items.
        names: a unique name per item, for messages and output files; empty if the source has none.
        labels: (N,) index into `classes` per item, or None.
        classes: names of the classes.
        notes: sentences to show the user (what was resized, what was skipped).
        found: what a source of images holds, before it is converted: of files their suffixes, those of other files,
            frames, grey and coloured ones; of an array its type and shape; of text its blank lines. JSON values.
        skipped: (name, reason) of every item that could not be read.
        known_fingerprint: the fingerprint, if it is known already.
        what: plural noun for the items in messages.
        sizes: what the numbers of an item's shape stand for, in messages.
    """

    items: np.ndarray
    modality: str
    source: str
    options: DataOptions = field(default_factory=DataOptions)
    names: tuple[str, ...] = ()
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    found: Mapping[str, Any] = field(default_factory=dict)
    skipped: tuple[tuple[str, str], ...] = ()
    known_fingerprint: str | None = None
    what: str = "images"
    sizes: str = "(height, width, channels)"

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the items' shape and bytes."""
        return self.known_fingerprint or fingerprint(self.items)

    def known_labels(self, option: str) -> np.ndarray:
        """The labels, (N,) indices into `classes`; a `UsageError` that names the option if there are none."""
        if self.labels is None:
            raise UsageError(
                f"{option}: {self.source} has no classes",
                "folders of a folder are classes; or labels in an .npz, or a metadata.csv of file_name,label",
            )
        return self.labels

    def refuse_unused(self, given: Any) -> None:
        """Raise a `UsageError` if an option of `given`, by its name in `DataOptions`, is for another kind of data."""
        for name in RESOLVED:
            if getattr(given, name) is not None and getattr(self.options, name) is None:
                option = f"--{name.replace('_', '-')}"
                raise UsageError(f"{option} has no effect on {self.source}: these are {self.modality}")
        if given.alpha and self.found.get("shape", [0])[-1] != 4:
            what = "it has no fourth channel" if "shape" in self.found else "image files say themselves what is alpha"
            raise UsageError(f"--alpha has no effect on {self.source}: {what}")
        if given.frames == "all" and "frames" not in self.found:
            raise UsageError(f"--frames has no effect on {self.source}: these are no image files", "omit --frames")


def fingerprint(items: np.ndarray) -> str:
    """SHA-256 of the shape and the bytes of a uint8 array (N, ...), read in chunks."""
    digest = hashlib.sha256(repr(items.shape).encode())
    rows = max(1, _CHUNK // max(1, items[:1].nbytes))
    for start in range(0, len(items), rows):
        digest.update(np.ascontiguousarray(items[start : start + rows]).data)
    return digest.hexdigest()


def split(n: int, val_fraction: float, seed: int, fold: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Disjoint, sorted indices of the training and validation items; deterministic in its arguments.

    At least one item is for validation if `val_fraction` is above 0, and at least one remains for training. With a
    fraction of 1 / K, the validation items of folds 0 to K - 1 are disjoint and together all items.

    Example:
        >>> train, val = split(10, 0.1, seed=0)
        >>> len(train), len(val)
        (9, 1)
        >>> np.sort(np.concatenate([split(7, 1 / 3, 0, fold)[1] for fold in range(3)])).tolist()
        [0, 1, 2, 3, 4, 5, 6]
    """
    order = permutation(seed, "split", n)
    start = min(n - 1, round(fold * n * val_fraction))
    stop = max(start + 1, round((fold + 1) * n * val_fraction)) if val_fraction > 0 else start
    stop = min(stop, n if start else n - 1)
    return np.sort(np.concatenate([order[:start], order[stop:]])), np.sort(order[start:stop])
