"""64-bit digests of the items that a model was trained on: what tells how other data differ from them."""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np

from raectl.data import Dataset
from raectl.storage.arrays import read_arrays, write_arrays

_BLOCK = 2**21  # bytes digested at a time, 8 bytes of memory each


def write_items(path: Path, dataset: Dataset) -> None:
    """Write the digests of a data set's items, and of their names if it has any."""
    write_arrays(path, {"contents": _contents(dataset.items), "names": _names(dataset.names)}, {})


def difference(path: Path, dataset: Dataset) -> str:
    """How a data set differs from the one whose digests are in a file, in words.

    Items of one name and other content have changed; where either has no names, an item is known by its content alone.

    Raises:
        RaectlError: the file is missing or damaged.
    """
    arrays, _ = read_arrays(path)
    old, new = (arrays["contents"], arrays["names"]), (_contents(dataset.items), _names(dataset.names))
    changed = 0
    if len(old[1]) and len(new[1]):
        before, now = (dict(zip(names.tolist(), contents.tolist(), strict=True)) for contents, names in (old, new))
        changed = sum(now[name] != before[name] for name in before.keys() & now.keys())
        came, went = len(now.keys() - before.keys()), len(before.keys() - now.keys())
    else:
        then, here = Counter(old[0].tolist()), Counter(new[0].tolist())
        came, went = (here - then).total(), (then - here).total()
    if not came + went + changed:
        return "the same items in another order"
    return f"{came:,} items came, {went:,} went, {changed:,} changed"


def _contents(items: np.ndarray) -> np.ndarray:
    """sum_j (x_j + 1) r_j mod 2^64 of each item's bytes x, r random and odd: (N, ...) uint8 => (N,) uint64."""
    size = items[:1].size
    weights = np.random.Philox(key=0).random_raw(size) | np.uint64(1)
    digests = np.empty(len(items), np.uint64)
    rows = max(1, _BLOCK // max(1, size))
    for start in range(0, len(items), rows):
        block = items[start : start + rows].reshape(-1, size).astype(np.uint64) + np.uint64(1)
        digests[start : start + rows] = block @ weights
    return digests


def _names(names: tuple[str, ...]) -> np.ndarray:
    digests = (hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest() for name in names)
    return np.frombuffer(b"".join(digests), np.uint64)
