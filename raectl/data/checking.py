"""Check a source item by item: which items are bad, duplicates, or constant."""

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from raectl.data import limits
from raectl.data.dataset import Dataset
from raectl.data.opening import open_dataset
from raectl.data.options import DataOptions
from raectl.progress import Progress

_UPDATE_EVERY = 100  # items between two progress updates


@dataclass(frozen=True)
class Checked:
    """The result of checking a source."""

    dataset: Dataset | None  # the good items; None if there are none
    bad: tuple[limits.Bad, ...]  # (name, reason) of all bad items
    total: int  # number of items, good and bad
    duplicates: tuple[tuple[int, ...], ...] = ()  # groups of indices of items with equal stored values
    constant: tuple[int, ...] = ()  # indices of items with a single value everywhere (in each channel)
    levels: tuple[int, int] = (0, 0)  # the least and the greatest stored value
    too_many: limits.BadItemsError | None = None  # the error with which a training run would refuse the source
    notes: tuple[str, ...] = ()  # the dataset's notes, except the one on bad items


def check_source(spec: str | Path, options: DataOptions, progress: Progress) -> Checked:
    """Decode and check every item of a source.

    Arguments:
        options: `max_bad` and `strict` determine `Checked.too_many`; all bad items are listed in any case.

    Raises:
        UsageError: an option is out of its range, or for another kind of data.
        RaectlError: the source does not exist, is of no known kind, or cannot be read.
    """
    limits.check(options)
    lenient = replace(options, max_bad=1.0, strict=False)
    try:
        dataset = open_dataset(spec, lenient, progress)
    except limits.BadItemsError as error:
        return Checked(None, error.bad, error.total, too_many=error)
    dataset.refuse_unused(options)
    total = len(dataset) + len(dataset.skipped)
    too_many = None
    try:
        limits.tolerate(dataset.skipped, total, dataset.source, options, dataset.what)
    except limits.BadItemsError as error:
        too_many = error
    skipped = limits.tolerate(dataset.skipped, total, dataset.source, lenient, dataset.what)
    notes = tuple(note for note in dataset.notes if note not in skipped)
    duplicates, constant, levels = _compare(dataset.items, progress)
    return Checked(dataset, dataset.skipped, total, duplicates, constant, levels, too_many, notes)


def _compare(
    items: np.ndarray, progress: Progress
) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...], tuple[int, int]]:
    """Groups of indices of equal items, the indices of constant items, and the least and the greatest value."""
    groups: dict[bytes, list[int]] = {}
    constant = []
    low, high = np.iinfo(items.dtype).max, 0
    for index, item in enumerate(items):
        low, high = min(low, int(item.min())), max(high, int(item.max()))
        groups.setdefault(hashlib.sha256(np.ascontiguousarray(item).data).digest(), []).append(index)
        if (item == (item[:1, :1] if item.ndim > 1 else item[:1])).all():
            constant.append(index)
        if (index + 1) % _UPDATE_EVERY == 0 or index + 1 == len(items):
            progress.update("comparing items", index + 1, len(items))
    return tuple(tuple(group) for group in groups.values() if len(group) > 1), tuple(constant), (low, high)


def class_counts(dataset: Dataset) -> dict[str, int]:
    """Number of items of each class; empty if the source has no classes."""
    counts = Counter(() if dataset.labels is None else dataset.labels.tolist())
    return {name: counts[index] for index, name in enumerate(dataset.classes)}
