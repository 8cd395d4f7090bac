"""Reconstructions of a whole source, measured, and some of them written."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from raectl._version import __version__
from raectl.checkpoint.checkpoint import BLOCK, Checkpoint
from raectl.data import Dataset
from raectl.errors import RaectlError
from raectl.progress import Progress
from raectl.registry import resolve
from raectl.storage.atomic import require_outside

_PICTURE = 64  # items in a picture, unless told


def reconstruct_source(
    checkpoint: Checkpoint, dataset: Dataset, out: Path, n: int | None, progress: Progress
) -> tuple[dict[str, float], int]:
    """Write n items beside their reconstructions, and measure all of them.

    Arguments:
        checkpoint: the model.
        dataset: its items, of the model's shape.
        out: a picture of pairs, or whatever else the modality writes.
        n: how many to write; None for 64 in a picture and all of them otherwise.

        progress: receives progress.

    Returns:
        The mean over all items of each of the modality's measures, which are also recorded in the directory; and how
        many items were written.
    """
    require_outside(out, dataset.source)
    many = min(len(dataset), _PICTURE if checkpoint.modality.is_picture(out) else len(dataset))
    count = many if n is None else min(n, len(dataset))
    measures = {name: resolve("metric", name) for name in checkpoint.modality.metrics}
    sums = dict.fromkeys(measures, 0.0)
    written: list[np.ndarray] = []
    for start in range(0, len(dataset), BLOCK):
        items = torch.from_numpy(np.array(dataset.items[start : start + BLOCK]))
        x = checkpoint.modality.to_tensor(items.to(checkpoint.device))
        x_hat = checkpoint.decode(checkpoint.encode(items))
        for name, measure in measures.items():
            sums[name] += float(measure(x, checkpoint.modality.measured(x_hat)).sum())
        if start < count:
            written.append(checkpoint.modality.to_items(x_hat))
        progress.update("reconstructing", start + len(items), len(dataset))
    reconstructions = np.concatenate(written)[:count]
    checkpoint.modality.write_pairs(out, np.array(dataset.items[:count]), reconstructions, dataset.names[:count])
    means = {name: total / len(dataset) for name, total in sums.items()}
    protocol = _protocol(checkpoint, dataset)
    try:
        checkpoint.directory.append_metrics([{"metric": k, "value": v, **protocol} for k, v in means.items()])
    except RaectlError as error:  # as when evaluating
        progress.note(f"{error.message}: the numbers are shown, but not recorded")
    return means, count


def _protocol(checkpoint: Checkpoint, dataset: Dataset) -> dict[str, Any]:
    return {
        "of": "reconstruction",
        "n": len(dataset),
        "split": "training" if dataset.fingerprint == checkpoint.data.fingerprint else "test",
        "source": dataset.source,
        "data": dataset.fingerprint,
        "weights": checkpoint.weights,
        "version": __version__,
    }
