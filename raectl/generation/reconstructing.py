"""Reconstruction of a data set: metrics of all items, and a file of some of them.

Metrics are of the plain decoder: a sharpened one gives up some faithfulness for items that look real. Where it makes
the items, its own metrics stand beside.
"""

from pathlib import Path

import numpy as np
import torch

from raectl.checkpoint.checkpoint import BLOCK, Checkpoint
from raectl.checkpoint.sharpened import PLAIN
from raectl.data import Dataset
from raectl.progress import Progress
from raectl.registry import resolve
from raectl.storage.atomic import require_outside

_PICTURE = 64  # default number of items in a picture


def reconstruct_source(
    checkpoint: Checkpoint, dataset: Dataset, out: Path, n: int | None, progress: Progress
) -> tuple[dict[str, dict[str, float]], int]:
    """Write n items beside their reconstructions, and compute the reconstruction metrics of all items.

    Arguments:
        checkpoint: the model.
        dataset: items of the model's shape.
        out: a picture of pairs, or another file that the modality writes.
        n: how many to write; None for 64 in a picture, and for all in another file.
        progress: receives progress.

    Returns:
        The means of the modality's metrics by decoder, the plain one first and then the one that made the items, which
        are also appended to the directory's metrics; and the number of items written.
    """
    require_outside(out, dataset.source)
    if n is None and checkpoint.modality.writer.is_picture(out):
        n = _PICTURE
    count = len(dataset) if n is None else min(n, len(dataset))
    metrics = {name: resolve("metric", name) for name in checkpoint.modality.metrics}
    used = dict.fromkeys((PLAIN, checkpoint.decoder_name))
    sums = {decoder: dict.fromkeys(metrics, 0.0) for decoder in used}
    written: list[np.ndarray] = []
    for start in range(0, len(dataset), BLOCK):
        items = torch.from_numpy(np.array(dataset.items[start : start + BLOCK]))
        x = checkpoint.modality.to_tensor(items.to(checkpoint.device))
        z = checkpoint.encode(items)
        for decoder in used:
            x_hat = checkpoint.decode(z, decoder)
            for name, metric in metrics.items():
                sums[decoder][name] += float(metric(x, checkpoint.modality.measured(x_hat)).sum())
        if start < count:
            written.append(checkpoint.modality.to_items(x_hat))
        progress.update("reconstructing", start + len(items), len(dataset))
    reconstructions = np.concatenate(written)[:count]
    checkpoint.modality.writer.write_pairs(out, np.array(dataset.items[:count]), reconstructions, dataset.names[:count])
    means = {decoder: {name: total / len(dataset) for name, total in of.items()} for decoder, of in sums.items()}
    for decoder, values in means.items():
        protocol = {"of": "reconstruction", "n": len(dataset), **checkpoint.protocol(dataset, decoder)}
        checkpoint.record([{"metric": name, "value": value, **protocol} for name, value in values.items()], progress)
    return means, count
