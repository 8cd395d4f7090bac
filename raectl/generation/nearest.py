"""The training items that samples are nearest to: did the model copy?"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raectl import rng
from raectl.checkpoint.checkpoint import Checkpoint
from raectl.data import Dataset
from raectl.errors import RaectlError
from raectl.metrics.copying import copied
from raectl.metrics.reference import Measured, Reference
from raectl.progress import Progress

SHOWN = 12  # samples in a picture
NEIGHBOURS = 3
_CANDIDATES = 32  # whose distances are computed exactly
_BLOCK = 1024  # training items compared at a time
_NUMBERS = 2**25  # of samples, or of items for `copied`, in memory at a time
_HELD_OUT = 256  # items beside whose distances those of samples are to be read


@dataclass(frozen=True)
class Neighbours:
    """The nearest training items of M items, the nearest first.

    Arguments:
        rows: their indices in the data set, (M, k).
        distance: root mean square difference of values, (M, k).
    """

    rows: np.ndarray
    distance: np.ndarray


@dataclass(frozen=True)
class Compared:
    """Samples beside the training items.

    Arguments:
        values, latents: the nearest by the values of the items, such as pixels, and by their codes.
        held_out: the distance of held-out items to the nearest training item by values; empty if there are none.
        copied: see `raectl.metrics.copying.copied`; None if there are no held-out items.
        names: of the nearest items by values, numbers if they have none.
    """

    values: Neighbours
    latents: Neighbours
    held_out: np.ndarray
    copied: Measured | None
    names: tuple[str | int, ...]

    def to_dict(self) -> dict[str, Any]:
        """The numbers, as JSON values."""
        distance = self.values.distance[:, 0].tolist()
        return {
            **{"n": len(distance), "equal": distance.count(0.0)},
            "copied": self.copied and {"value": self.copied.value, "se": self.copied.se},
            "held_out_distance": float(np.median(self.held_out)) if len(self.held_out) else None,
            "nearest": [{"item": name, "distance": d} for name, d in zip(self.names, distance, strict=True)],
        }


def open_training(checkpoint: Checkpoint, source: str | None, progress: Progress) -> Dataset:
    """The data of the training, from where they are now.

    Raises:
        RaectlError: they are gone, or these are others.
    """
    training = checkpoint.open_data(source, progress)
    if training.fingerprint != checkpoint.data.fingerprint:
        raise RaectlError(f"{source} is not the data that {checkpoint.directory.path} was trained on", "omit --data")
    return training


def compare_with_training(
    checkpoint: Checkpoint, samples: np.ndarray, training: Dataset, progress: Progress | None = None
) -> Compared:
    """Find the training items that samples are nearest to.

    Arguments:
        samples: (M, *stored shape).
        training: the data of the training.

    Raises:
        RaectlError: there are no samples.
    """
    if not len(samples):
        raise RaectlError("there are no samples to compare")
    progress = progress or Progress()
    rows, held_out_rows = checkpoint.split(training.items)
    search = _Search(checkpoint, training.items, rows, progress)
    values, codes = search.values(samples), checkpoint.latents(training)
    latents = _nearest(checkpoint.encode(samples).cpu(), lambda at: torch.from_numpy(codes[at]), rows, progress)
    held_out, share = np.empty(0), None
    if len(held_out_rows):
        chosen = held_out_rows[rng.choose(0, "nearest of held-out items", len(held_out_rows), _HELD_OUT)]
        held_out = search.values(training.items[np.sort(chosen)]).distance[:, 0]
        share = search.copied(samples, held_out_rows)
    nearest = values.rows[:, 0].tolist()
    names = tuple(training.names[row] if training.names else row for row in nearest)
    return Compared(values, latents, held_out, share, names)


class _Search:
    """Nearest training items of a data set."""

    def __init__(self, checkpoint: Checkpoint, items: np.ndarray, rows: np.ndarray, progress: Progress) -> None:
        self._checkpoint, self._items, self._rows, self._progress = checkpoint, items, rows, progress
        self._at_once = max(1, _NUMBERS // int(np.prod(checkpoint.item_shape)))

    def values(self, items: np.ndarray) -> Neighbours:
        """The nearest by values."""
        parts = [
            _nearest(self._flat(items[start : start + self._at_once]), self._of_rows, self._rows, self._progress)
            for start in range(0, len(items), self._at_once)
        ]
        return Neighbours(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("rows", "distance")))

    def copied(self, samples: np.ndarray, held_out: np.ndarray) -> Measured | None:
        """Share of samples that are nearer to a training item than to a held-out one."""
        count = min(self._at_once, len(held_out), len(self._rows))
        real, trained = (
            self._of_rows(np.sort(rows[rng.choose(0, name, len(rows), count)]))
            for name, rows in (("copied, held out", held_out), ("copied, trained on", self._rows))
        )
        if min(len(real), len(samples)) < 2:
            return None
        reference = Reference(real, training_sample=lambda: trained)
        return copied(reference, self._flat(samples[: self._at_once]))["copied"]

    def _of_rows(self, rows: np.ndarray) -> Tensor:
        return self._flat(self._items[rows])

    def _flat(self, items: np.ndarray) -> Tensor:
        """Values as the networks see them: (N, *stored shape) => (N, D) float32."""
        return self._checkpoint.modality.to_tensor(torch.from_numpy(np.array(items))).flatten(1)


def write_nearest(
    checkpoint: Checkpoint, samples: np.ndarray, training: Dataset, found: Compared, out: Path, count: int = SHOWN
) -> None:
    """A picture of samples, those nearest to a training item first, above their nearest items in both senses."""
    order = np.argsort(found.values.distance[:, 0], kind="stable")[:count]
    labels, rows = ["sample"], [samples[order]]
    for name, neighbours in ((checkpoint.modality.values, found.values), ("latents", found.latents)):
        for place in range(neighbours.rows.shape[1]):
            labels.append(f"{place + 1}. by {name}")
            rows.append(np.array(training.items[neighbours.rows[order, place]]))
    checkpoint.modality.writer.write_rows(out, labels, rows)


def _nearest(
    queries: Tensor, features: Callable[[np.ndarray], Tensor], rows: np.ndarray, progress: Progress
) -> Neighbours:
    """The nearest of the features of some rows: (M, D) => M x k.

    Candidates are found in single precision, of centred features; among them distances are exact: equal items are at 0.
    """
    k, candidates, m = min(NEIGHBOURS, len(rows)), min(_CANDIDATES, len(rows)), len(queries)
    best, found = torch.full((m, candidates), torch.inf), torch.zeros(m, candidates, dtype=torch.long)
    centre = queries.mean(dim=0)
    centred = queries - centre
    for start in range(0, len(rows), _BLOCK):
        block = features(rows[start : start + _BLOCK]) - centre
        squares = torch.addmm(block.square().sum(dim=1), centred, block.T, alpha=-2)
        index = torch.arange(start, start + len(block)).expand(m, -1)
        best, at = torch.cat([best, squares], dim=1).topk(candidates, dim=1, largest=False)
        found = torch.cat([found, index], dim=1).gather(1, at)
        progress.update("looking for the nearest", start + len(block), len(rows))
    exact = torch.stack([_distance(queries, features(rows[column])) for column in found.T.numpy()], dim=1)
    exact, order = exact.sort(dim=1, stable=True)
    return Neighbours(rows[found.gather(1, order)[:, :k].numpy()], exact[:, :k].numpy())


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Root mean square differences, 2 x (M, D) => (M,) float64."""
    return (a - b).double().square().mean(dim=1).sqrt()
