"""The baseline of reconstructions: how far items are from one item for all of them, the mean.

A model whose error is not clearly below that has learnt little of what tells the items apart.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from raectl import rng
from raectl.checkpoint.checkpoint import Checkpoint
from raectl.checkpoint.networks import BLOCK
from raectl.data import Dataset
from raectl.registry import resolve

MEAN = "mean"  # the first word of its name
_MOST = 10_000  # items whose mean is taken


class Baseline(NamedTuple):
    """The name of the mean in tables and records, `mean image` or `mean item`, what it is the mean of, its errors."""

    name: str
    of: str
    errors: dict[str, float]


def baseline(checkpoint: Checkpoint, items: np.ndarray, training: Dataset | None) -> Baseline:
    """Means of the modality's metrics over items, if all were reconstructed as the mean of what was trained on.

    Of the latter a sample is taken if these are many, and the items, (N, *stored), themselves if they are gone.
    """
    if training is None:
        source, rows, of = items, np.arange(len(items)), "these items, as the training data are gone"
    else:
        source, of = training.items, "the items trained on"
        rows, _ = checkpoint.split(source)
    rows = rows[rng.choose(0, "mean item", len(rows), _MOST)]
    total = torch.zeros(checkpoint.item_shape, dtype=torch.float64)
    for start in range(0, len(rows), BLOCK):
        total += _tensor(checkpoint, source[rows[start : start + BLOCK]]).double().sum(dim=0)
    mean = checkpoint.modality.measured((total / len(rows)).float()[None])
    metrics = {name: resolve("metric", name) for name in checkpoint.modality.metrics}
    sums = dict.fromkeys(metrics, 0.0)
    for start in range(0, len(items), BLOCK):
        x = _tensor(checkpoint, items[start : start + BLOCK])
        for key, metric in metrics.items():
            sums[key] += float(metric(x, mean.expand_as(x)).sum())
    return Baseline(f"{MEAN} {checkpoint.modality.noun}", of, {key: total / len(items) for key, total in sums.items()})


def _tensor(checkpoint: Checkpoint, items: np.ndarray) -> Tensor:
    return checkpoint.modality.to_tensor(torch.from_numpy(np.array(items)))
