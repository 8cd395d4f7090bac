"""One consistent instant of a training run, as named arrays: what resuming starts from, bit for bit."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raectl.config import Config
from raectl.model.autoencoder import Autoencoder
from raectl.model.plateau import Schedule
from raectl.model.weights import module_layout
from raectl.registry import resolve
from raectl.storage.arrays import Arrays, Layout, Spec, grouped, joined, read_arrays, write_arrays
from raectl.storage.records import Count, Positive

_GROUPS = ("last", "best", "average", "optimizer", "epoch")


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
        average: of the parameters, by name; none where the last weights are kept.
        optimizer: its state.
        sums: (terms,) float64, the epoch's sums of each term so far.
    """

    position: Position
    last: Arrays
    best: Arrays
    average: Arrays
    optimizer: Arrays
    sums: np.ndarray

    def write(self, path: Path) -> None:
        """Write it as one file, in one rename."""
        groups = {name: getattr(self, name) for name in _GROUPS[:-1]}
        write_arrays(path, joined({**groups, "epoch": {"sums": self.sums}}), self.position)

    @staticmethod
    def layout_of(config: Config, model: Autoencoder, terms: int) -> Layout:
        """The layout of the file of a model, whose loss has so many terms."""

        def of_names(names: Collection[str]) -> dict[str, Spec]:
            weights = module_layout(model)
            present = {name.removeprefix("optimizer.") for name in names if name.startswith("optimizer.")}
            groups = {
                "last": weights,
                "best": weights,
                "average": {name: weights[name] for name, _ in model.named_parameters() if config.average},
                "optimizer": resolve("optimizer", config.optimizer).layout_of(model, present),
                "epoch": {"sums": ((terms,), "float64")},
            }
            return joined(groups)

        return of_names

    @classmethod
    def read(cls, path: Path, layout: Layout) -> "TrainingState":
        """The inverse of `write`.

        Raises:
            RaectlError: the file is missing, damaged, or of another layout.
        """
        arrays, position = read_arrays(path, Position, layout)
        groups = grouped(arrays, _GROUPS)
        return cls(position, sums=groups.pop("epoch")["sums"], **groups)
