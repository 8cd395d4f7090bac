"""One consistent instant of a training run, as named arrays: what resuming starts from, bit for bit."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raectl.model.autoencoder import Autoencoder
from raectl.model.plateau import Schedule
from raectl.model.weights import adam_layout, module_layout
from raectl.storage.arrays import Arrays, Layout, Spec, grouped, joined, read_arrays, write_arrays
from raectl.storage.records import Count, Positive

_GROUPS = ("last", "best", "adam", "epoch")


@dataclass
class Position(Schedule):
    """Where a run is: its place in the learning rate's schedule, and the following.

    Arguments:
        epoch: whole epochs done.
        batch: batches done of the next one.
        step: batches done in all; the noise of a step is a function of the seed and this number.
        best_epoch: the epoch of the weights for use: the best one, or the last one as long as the reconstruction term
            changes; 0 are the initial weights.
        best_loss: the best validation loss, None before the first that can be compared with later ones.
    """

    lr: Positive = 1e-3
    stale: Count = 0
    epoch: Count = 0
    batch: Count = 0
    step: Count = 0
    best_epoch: Count = 0
    best_loss: float | None = None


@dataclass
class TrainingState:
    """Everything that decides how a run goes on.

    Arguments:
        position: where it is.
        last, best: weights, by name.
        adam: the optimizer's moments.
        sums: (terms,) float64, the epoch's sums of each term so far.
    """

    position: Position
    last: Arrays
    best: Arrays
    adam: Arrays
    sums: np.ndarray

    def write(self, path: Path) -> None:
        """Write it as one file, in one rename."""
        groups = {"last": self.last, "best": self.best, "adam": self.adam, "epoch": {"sums": self.sums}}
        write_arrays(path, joined(groups), self.position)

    @staticmethod
    def layout_of(model: Autoencoder, terms: int) -> Layout:
        """The layout of the file of a model, whose loss has so many terms."""

        def of_names(names: Collection[str]) -> dict[str, Spec]:
            weights = module_layout(model)
            moments = {name.removeprefix("adam.") for name in names if name.startswith("adam.")}
            adam = adam_layout(model.parameters(), moments)
            return joined({"last": weights, "best": weights, "adam": adam, "epoch": {"sums": ((terms,), "float64")}})

        return of_names

    @classmethod
    def read(cls, path: Path, layout: Layout) -> "TrainingState":
        """The inverse of `write`.

        Raises:
            RaectlError: the file is missing, damaged, or of another layout.
        """
        arrays, position = read_arrays(path, Position, layout)
        groups = grouped(arrays, _GROUPS)
        return cls(position, groups["last"], groups["best"], groups["adam"], groups["epoch"]["sums"])
