"""The baseline of reconstructions: how far items are from one item for all of them, the mean.

A model whose error is not clearly below that has learnt little of what tells the items apart.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raectl import rng
from raectl.checkpoint.checkpoint import BLOCK, Checkpoint
from raectl.data import Dataset, split
from raectl.registry import resolve

MEAN = "mean"  # the first word of its name
_MOST = 10_000  # items whose mean is taken


@dataclass(frozen=True)
class Baseline:
    """One item for all.

    Arguments:
        name: as in tables and records: `mean image`, or `mean item`.
        of: what it is the mean of.
        x: the values, (1, *item_shape), as `Modality.measured` has them.
    """

    name: str
    of: str
    x: Tensor

    def errors(self, checkpoint: Checkpoint, items: np.ndarray) -> dict[str, float]:
        """Means of the modality's metrics over items, (N, *stored) uint8, if all were reconstructed as the mean."""
        metrics = {name: resolve("metric", name) for name in checkpoint.modality.metrics}
        sums = dict.fromkeys(metrics, 0.0)
        for start in range(0, len(items), BLOCK):
            x = _tensor(checkpoint, items[start : start + BLOCK])
            for name, metric in metrics.items():
                sums[name] += float(metric(x, self.x.expand_as(x)).sum())
        return {name: total / len(items) for name, total in sums.items()}


def baseline(checkpoint: Checkpoint, items: np.ndarray, training: Dataset | None) -> Baseline:
    """The mean of what was trained on, of a sample if these are many; of the items themselves if it is gone.

    Arguments:
        items: (N, *stored) uint8.
        training: the data that the checkpoint was trained on.
    """
    name = f"{MEAN} {checkpoint.modality.noun}"
    if training is None:
        source, rows, of = items, np.arange(len(items)), "these items, as the training data are gone"
    else:
        source, of = training.items, "the items trained on"
        rows, _ = split(len(source), checkpoint.config.val_fraction, checkpoint.config.seed)
    rows = rows[rng.choose(0, "mean item", len(rows), _MOST)]
    total = torch.zeros(checkpoint.item_shape, dtype=torch.float64)
    for start in range(0, len(rows), BLOCK):
        total += _tensor(checkpoint, source[rows[start : start + BLOCK]]).double().sum(dim=0)
    mean = (total / len(rows)).float()[None]
    return Baseline(name, of, checkpoint.modality.measured(mean))


def _tensor(checkpoint: Checkpoint, items: np.ndarray) -> Tensor:
    return checkpoint.modality.to_tensor(torch.from_numpy(np.array(items)))
