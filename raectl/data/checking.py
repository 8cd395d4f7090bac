"""What a source holds, item by item: what is bad, equal or of one value."""

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

_LOOKED_AT = 100  # items between two calls of progress


@dataclass(frozen=True)
class Checked:
    """A source, opened whatever the share of its bad items, and what was found.

    Arguments:
        dataset: None if no item is good.
        bad: (name, reason) of all bad items.
        total: number of items, good and bad.
        duplicates: groups of indices of two or more items with the same values, once they have one shape.
        constant: indices of items that are of one value everywhere (in each channel).
        too_many: why a training run would refuse the source, or None.
        notes: those of the dataset that name no bad items.
    """

    dataset: Dataset | None
    bad: tuple[limits.Bad, ...]
    total: int
    duplicates: tuple[tuple[int, ...], ...] = ()
    constant: tuple[int, ...] = ()
    too_many: limits.BadItemsError | None = None
    notes: tuple[str, ...] = ()


def check_source(spec: str | Path, options: DataOptions, progress: Progress) -> Checked:
    """Decode all of a source and look at every item.

    Arguments:
        options: their `max_bad` and `strict` decide what is too many; all bad items are found in any case.

    Raises:
        UsageError: an option is out of its range, or for data of another kind.
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
    duplicates, constant = _looked_at(dataset.items, progress)
    return Checked(dataset, dataset.skipped, total, duplicates, constant, too_many, notes)


def _looked_at(items: np.ndarray, progress: Progress) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]:
    seen: dict[bytes, list[int]] = {}
    constant = []
    for index, item in enumerate(items):
        seen.setdefault(hashlib.sha256(np.ascontiguousarray(item).data).digest(), []).append(index)
        if (item == (item[:1, :1] if item.ndim > 1 else item[:1])).all():
            constant.append(index)
        if (index + 1) % _LOOKED_AT == 0 or index + 1 == len(items):
            progress.update("comparing items", index + 1, len(items))
    return tuple(tuple(group) for group in seen.values() if len(group) > 1), tuple(constant)


def class_counts(dataset: Dataset) -> dict[str, int]:
    """Number of items of each class, empty where the source has none."""
    if dataset.labels is None:
        return {}
    counts = Counter(dataset.labels.tolist())
    return {name: counts[index] for index, name in enumerate(dataset.classes)}
