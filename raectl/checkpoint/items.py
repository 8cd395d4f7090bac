"""64-bit digests of the items that a model was trained on: what tells how other data differ from them.

Two different items have the same digest with a probability of about 2^-60 (the digests' weights are random), so items
are recognised by it one by one, whatever their names and their order.
"""

import hashlib
from collections import Counter
from pathlib import Path
from types import NoneType
from typing import NamedTuple

import numpy as np

from raectl.config import Config
from raectl.data import Dataset, split
from raectl.errors import RaectlError
from raectl.rng import permutation
from raectl.storage.arrays import read_arrays, write_arrays
from raectl.storage.records import RESTORE

_BLOCK = 2**21  # values digested at a time, 8 bytes of memory each


class Digests(NamedTuple):
    """Digests of items.

    Arguments:
        contents, names: of the items, (N,) uint64 each, or no names.
        trained_on, held_out: of the contents of the items, sorted, that the runs before were trained on, and that they
            held out, if the weights at the start are another run's.
    """

    contents: np.ndarray
    names: np.ndarray
    trained_on: np.ndarray
    held_out: np.ndarray

    def split(self, config: Config) -> tuple[np.ndarray, np.ndarray]:
        """Sorted indices of the items to train on, and of those held out.

        With another run's weights, what it was trained on is trained on again, what it held out is held out again, and
        of the other items the configuration's share. If it was trained on all of them, they are split as if anew.
        """
        n, fraction, seed = len(self.contents), config.val_fraction, config.seed
        again = np.isin(self.contents, self.trained_on)
        held_out = np.isin(self.contents, self.held_out) & ~again
        new = np.flatnonzero(~again & ~held_out)
        if not fraction or not (len(self.trained_on) and (held_out.any() or len(new))):
            return split(n, fraction, seed, config.fold)
        count = max(round(fraction * len(new)), int(not held_out.any()))
        order = permutation(seed, "split", len(new))[: min(count, n - 1)]
        held_out[new[order]] = True
        return np.flatnonzero(~held_out), np.flatnonzero(held_out)


_NONE = np.empty(0, np.uint64)


def digests_of(dataset: Dataset, trained_on: np.ndarray = _NONE, held_out: np.ndarray = _NONE) -> Digests:
    """The digests of a data set's items; the others as `Digests` has them."""
    return Digests(_contents(dataset.items), _names(dataset.names), trained_on, held_out)


def seen_by(path: Path, config: Config, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted digests of all items that a model of n items was trained on, runs before included, and that it held out.

    Raises:
        RaectlError: its file is missing or damaged, or of other data.
    """
    digests = read_items(path)
    if len(digests.contents) != n:
        raise RaectlError(f"{path} is damaged: it holds {len(digests.contents)} digests of {n} items", RESTORE)
    trained_on, held_out = (digests.contents[rows] for rows in digests.split(config))
    trained_on = np.union1d(trained_on, digests.trained_on)
    return trained_on, np.setdiff1d(np.union1d(held_out, digests.held_out), trained_on)


def split_as(path: Path, items: np.ndarray, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """How a model whose digests are in a file splits items: indices of those to train on, and of those held out.

    Raises:
        RaectlError: the file is missing or damaged.
    """
    return read_items(path)._replace(contents=_contents(items)).split(config)


def write_items(path: Path, digests: Digests) -> None:
    """Write digests."""
    write_arrays(path, digests._asdict())


def difference(path: Path, dataset: Dataset) -> str:
    """How a data set differs from the one whose digests are in a file, in words.

    Items of one name and other content have changed; where either has no names, an item is known by its content alone.

    Raises:
        RaectlError: the file is missing or damaged.
    """
    old, new = read_items(path)[:2], digests_of(dataset)[:2]
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


class Seen(NamedTuple):
    """How many of n items a model has seen: trained on, or held out of it for validation."""

    n: int
    trained_on: int
    held_out: int

    @property
    def total(self) -> int:
        """Both."""
        return self.trained_on + self.held_out

    @property
    def sentence(self) -> str:
        """For people; empty if there are none.

        Example:
            >>> Seen(100, 60, 0).sentence
            '60 of 100 items were trained on'
        """
        counts = f"{self.total:,} of {self.n:,} items were"
        if not self.held_out:
            return f"{counts} trained on" if self.total else ""
        if not self.trained_on:
            return f"{counts} held out for validation in training"
        return f"{counts} trained on, or, {self.held_out:,} of them, held out for validation"


class Known(NamedTuple):
    """Sorted digests of the items that a model was trained on, and of those held out, runs before included.

    An item that is in both parts was trained on.
    """

    trained_on: np.ndarray
    held_out: np.ndarray

    def among(self, items: np.ndarray, rows: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Which of items (N, *stored) were trained on, and which were held out, 2 x (N,) bool.

        Arguments:
            rows: indices of those that are asked for; None for all.
        """
        found = _contents(items, rows)
        trained = _is_in(self.trained_on, found)
        return trained, _is_in(self.held_out, found) & ~trained


def _is_in(ordered: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Which values are among sorted ones; without the sorting of `np.isin`, since it is asked for a few at a time."""
    if not len(ordered):
        return np.zeros(len(found), bool)
    return np.asarray(ordered[np.minimum(np.searchsorted(ordered, found), len(ordered) - 1)] == found)


def read_known(path: Path, config: Config) -> Known | None:
    """The items whose digests are in a file, by a configuration's split; None if the file is missing or damaged."""
    try:
        digests = read_items(path)
    except RaectlError:
        return None
    trained_on, held_out = (digests.contents[rows] for rows in digests.split(config))
    return Known(np.union1d(trained_on, digests.trained_on), np.union1d(held_out, digests.held_out))


def recognise(path: Path, items: np.ndarray, config: Config) -> Seen | None:
    """How many of items (N, *stored) are those whose digests are in a file; None if that is not known."""
    if (known := read_known(path, config)) is None:
        return None
    trained_on, held_out = known.among(items)
    return Seen(len(items), int(trained_on.sum()), int(held_out.sum()))


def read_items(path: Path) -> Digests:
    """The inverse of `write_items`.

    Raises:
        RaectlError: the file is missing or damaged.
    """
    arrays, _ = read_arrays(path, NoneType, lambda _: dict.fromkeys(Digests._fields))
    digests = Digests(**arrays)
    is_right = all(array.dtype == np.uint64 and array.ndim == 1 for array in digests)
    if not is_right or len(digests.names) not in (0, len(digests.contents)):
        raise RaectlError(f"{path} holds no digests of items", RESTORE)
    return digests


def _contents(items: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    """sum_j (x_j + 1) r_j mod 2^64 of each item's values x, r random and odd: (N, ...) => (N,) uint64.

    Arguments:
        rows: indices of the items to digest; None for all.
    """
    size, n = items[:1].size, len(items if rows is None else rows)
    weights = np.random.Philox(key=0).random_raw(size) | np.uint64(1)
    digests = np.empty(n, np.uint64)
    step = max(1, _BLOCK // max(1, size))
    for start in range(0, n, step):
        chosen = slice(start, start + step)
        block = items[chosen if rows is None else rows[chosen]].reshape(-1, size).astype(np.uint64) + np.uint64(1)
        digests[chosen] = block @ weights
    return digests


def _names(names: tuple[str, ...]) -> np.ndarray:
    digests = (hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest() for name in names)
    return np.frombuffer(b"".join(digests), np.uint64)
