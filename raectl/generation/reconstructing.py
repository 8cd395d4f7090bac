"""Reconstruction of a data set: metrics of all items, and a file of some of them.

Metrics are of the plain decoder: a sharpened one gives up some faithfulness for items that look real. Where it makes
the items, its own metrics stand beside.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from raectl import rng
from raectl.checkpoint.checkpoint import Checkpoint
from raectl.checkpoint.items import Seen
from raectl.checkpoint.networks import BLOCK
from raectl.checkpoint.sharpened import PLAIN
from raectl.data import Dataset
from raectl.errors import RaectlError
from raectl.generation.baseline import Baseline, baseline
from raectl.metrics.reference import direction_and_unit
from raectl.modalities.base import modality_of
from raectl.progress import Progress
from raectl.registry import resolve
from raectl.storage.atomic import require_outside

_PICTURE = 64  # default number of items in a picture


@dataclass(frozen=True)
class Reconstructed:
    """What `reconstruct_source` found."""

    # Means of the modality's metrics by decoder, the plain one first, then the one that made the items.
    errors: dict[str, dict[str, float]]
    baseline: Baseline  # the same means, were every item reconstructed as the mean item
    written: int
    seen: Seen | None  # how many of the items were trained on; None if that is not known


def reconstruct_source(
    checkpoint: Checkpoint, dataset: Dataset, out: Path, n: int | None, progress: Progress, seed: int = 0
) -> Reconstructed:
    """Write n items beside their reconstructions, and compute the reconstruction metrics of all items.

    The metrics are also appended to the directory's, those of the mean item beside them.

    Arguments:
        out: a picture of pairs, or another file that the modality writes.
        n: how many to write; None for 64 in a picture, and for all in another file.
        seed: chooses them.
    """
    require_outside(out, dataset.source)
    if n is None and checkpoint.modality.writer.is_picture(out):
        n = _PICTURE
    rows = rng.choose(seed, "reconstructed items", len(dataset), len(dataset) if n is None else n)
    errors, reconstructions = _reconstruct(checkpoint, dataset, rows, progress)
    names = [dataset.names[row] for row in rows.tolist()] if dataset.names else []
    # In the units of these data, which may be others than the training's.
    writer = modality_of(dataset.modality, dataset.options).writer
    writer.write_pairs(out, np.array(dataset.items[rows]), reconstructions, names)
    mean = baseline(checkpoint, dataset.items, _training(checkpoint, dataset))
    found = Reconstructed(errors, mean, len(rows), checkpoint.seen(dataset.items))
    _record(checkpoint, dataset, found, progress)
    return found


def _reconstruct(
    checkpoint: Checkpoint, dataset: Dataset, rows: np.ndarray, progress: Progress
) -> tuple[dict[str, dict[str, float]], np.ndarray]:
    """Errors of all items by decoder, and the items that those of some sorted rows become."""
    metrics = {name: resolve("metric", name) for name in checkpoint.modality.metrics}
    used = dict.fromkeys((PLAIN, checkpoint.decoder_name))
    sums = {decoder: dict.fromkeys(metrics, 0.0) for decoder in used}
    kept: list[np.ndarray] = []
    for start in range(0, len(dataset), BLOCK):
        items = np.array(dataset.items[start : start + BLOCK])
        x = checkpoint.modality.to_tensor(torch.from_numpy(items).to(checkpoint.device))
        z = checkpoint.encode(items)
        for decoder in used:
            x_hat = checkpoint.decode(z, decoder)
            for name, metric in metrics.items():
                sums[decoder][name] += float(metric(x, checkpoint.modality.measured(x_hat)).sum())
        chosen = rows[(rows >= start) & (rows < start + BLOCK)] - start
        if len(chosen):
            kept.append(checkpoint.modality.to_items(x_hat)[chosen])
        progress.update("reconstructing", start + len(items), len(dataset))
    means = {decoder: {name: total / len(dataset) for name, total in of.items()} for decoder, of in sums.items()}
    return means, np.concatenate(kept)


def _training(checkpoint: Checkpoint, dataset: Dataset) -> Dataset | None:
    """The data trained on, unless they are gone."""
    if dataset.fingerprint == checkpoint.data.fingerprint:
        return dataset
    try:
        return checkpoint.open_data()
    except RaectlError:
        return None


def _record(checkpoint: Checkpoint, dataset: Dataset, found: Reconstructed, progress: Progress) -> None:
    sets = [("reconstruction", decoder, errors) for decoder, errors in found.errors.items()]
    for of, decoder, errors in [*sets, (found.baseline.name, None, found.baseline.errors)]:
        protocol = {"of": of, "n": len(dataset), **checkpoint.protocol(dataset, decoder, found.seen)}
        lines = [{"metric": k, "value": v, **direction_and_unit(k), **protocol} for k, v in errors.items()]
        checkpoint.record(lines, progress)
