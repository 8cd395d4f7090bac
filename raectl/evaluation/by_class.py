"""The classes of real items, each measured by itself: real ones, reconstructions, and samples of densities by class."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from torch import Tensor

from raectl.data import Dataset
from raectl.evaluation.features import FeatureSpace
from raectl.metrics.reference import Measured, Reference

FEWEST = 12  # items of a class, real ones and those compared with them


def class_names(dataset: Dataset) -> np.ndarray | None:
    """The class of each item, (N,) texts; None if the items have none, or all the same."""
    if dataset.labels is None or len(dataset.classes) < 2:
        return None
    names: np.ndarray = np.array(dataset.classes)[dataset.labels]
    return names


class Classes:
    """Compares sets of items with real ones class by class, by what the features are judged by.

    Arguments:
        space: the features to judge by.
        real: features of the real items, (N, D).
        names: the class of each, (N,).
    """

    def __init__(self, space: FeatureSpace, real: Tensor, names: np.ndarray) -> None:
        judge = space.extractor.judged_by
        self._space = FeatureSpace(space.extractor, (judge,)) if judge in space.set_metrics else space
        known, counts = np.unique(names, return_counts=True)
        self.left_out = tuple(known[counts < FEWEST].tolist())
        self._rows = {str(name): np.flatnonzero(names == name) for name in known[counts >= FEWEST]}
        self._references = {name: Reference(real[rows]) for name, rows in self._rows.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """Of the classes that are measured."""
        return tuple(self._references)

    def measure(
        self, features: Tensor, names: Sequence[str] | np.ndarray, errors: Mapping[str, np.ndarray]
    ) -> Iterator[tuple[str, int, int, dict[str, Measured]]]:
        """For each class its name, how many items and real ones there are, and the numbers.

        Arguments:
            features: of the set, (M, D).
            names: the class of each, (M,).
            errors: of each item by metric, (M,) each; of reconstructions.
        """
        of_items = np.asarray(names)
        for name, reference in self._references.items():
            rows = np.flatnonzero(of_items == name)
            if len(rows) >= FEWEST:
                measured = self._space.measure(reference, features[rows])
                means = {metric: Measured(float(values[rows].mean())) for metric, values in errors.items()}
                yield name, len(rows), len(self._rows[name]), measured | means
