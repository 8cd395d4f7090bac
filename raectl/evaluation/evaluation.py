"""Evaluate a model: every column of the paper's Table 1, by every set metric that its items have.

Columns are compared, as the bytes that `raectl sample` and the like would write, with real items that the model has not
seen. The row `real` compares real items with real items: the difference of two samples of the same data, which for the
Fréchet distance is far from 0 at small n. It is no bound: a reconstruction is nearer to its own original than another
real item is, and where `real` has only half the items, its distance is larger.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raectl import rng
from raectl.checkpoint.checkpoint import Checkpoint
from raectl.data import Dataset
from raectl.errors import RaectlError, UsageError
from raectl.evaluation.columns import Column, columns
from raectl.evaluation.features import cached_features, extract
from raectl.extractors import Extractor
from raectl.metrics.reference import Measured, Reference
from raectl.progress import Progress
from raectl.registry import check, resolve

REAL = "real"
DEFAULT_N = 10_000  # the paper's
_FEWEST = 12  # items; neighbourhoods of five must mean something


@dataclass(frozen=True)
class Measurement:
    """One column of Table 1, measured.

    Arguments:
        of: the column's name, see `raectl.evaluation.columns`; `real` for other real items.
        density: name of the fitted density it rests on, or None.
        measured: {metric: value and standard error}.
        protocol: how it was measured: numbers of items, data, features, seed, weights, version, seconds.
    """

    of: str
    density: str | None
    measured: dict[str, Measured]
    protocol: dict[str, Any]

    @property
    def records(self) -> list[dict[str, Any]]:
        """A line of metrics.jsonl a number."""
        return [
            {"metric": name, "value": m.value, "se": m.se, "of": self.of, "density": self.density, **self.protocol}
            for name, m in self.measured.items()
        ]


class Evaluation:
    """Measures a checkpoint against real items.

    Arguments:
        checkpoint: the model.
        source: real items that it has not seen, as `Checkpoint.open_data` takes them.
        n: at most this many real items, chosen by the seed where there are more, and as many samples, reconstructions
            and interpolations.
        features: registry name of the extractor; None for the modality's own.
        weights: file of the extractor's weights, for one that does not come with any.
        densities: names of fitted densities; by default all that were fitted to the checkpoint's present weights.
        kind: of interpolation, `linear` or `spherical`.
        seed: of samples, pairs and choices.
        draws: decode each sample so many times, at random, and keep the most frequent valid item; None for once.
        max_bad: share of the real items that may be bad and are skipped.
        progress: receives progress and warnings.

    Raises:
        UsageError: an option is wrong.
        RaectlError: the extractor is not installed, the data do not suit, or a density is not there.

    Example:
        >>> for result in Evaluation(raectl.load("ckpt"), "test-imgs"):     # doctest: +SKIP
        ...     print(result.of, result.measured["kernel"].value)
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        source: str | Path | np.ndarray,
        *,
        n: int = DEFAULT_N,
        features: str | None = None,
        weights: Path | None = None,
        densities: Sequence[str] = (),
        kind: str = "spherical",
        seed: int = 0,
        draws: int | None = None,
        max_bad: float | None = None,
        progress: Progress | None = None,
    ) -> None:
        if n < _FEWEST:
            raise UsageError(f"-n {n} is too few to compare distributions", f"-n {_FEWEST} at least")
        checkpoint.check_draws(draws)
        self.progress = progress or Progress()
        self._records = True
        self.checkpoint, self.seed, self.n = checkpoint, rng.check_seed(seed), n
        self.extractor = _extractor(checkpoint, features, weights)
        self.dataset = checkpoint.open_data(source, self.progress, max_bad)
        if len(self.dataset) < _FEWEST:
            raise RaectlError(f"{self.dataset.source}: {len(self.dataset)} items are too few", "give more --data")
        self.training = self._open_training()
        self.real = self._choose(self.dataset)
        self.columns = columns(
            checkpoint,
            self.real,
            self.training,
            densities=densities,
            kind=kind,
            seed=seed,
            draws=draws,
            progress=self.progress,
        )
        for note in self.extractor.notes:
            self.progress.note(note)

    def __iter__(self) -> Iterator[Measurement]:
        """Measure and record one column after the other, that of real items first."""
        reference = Reference(torch.from_numpy(self._features(self.dataset, self.real)), self._training_features)
        n, dim = reference.features.shape
        if n < dim:
            self.progress.note(
                f"{n:,} real items are fewer than the {dim:,} features: the Fréchet distance is far too high at this "
                f"n, as that of {REAL} shows; trust the kernel distance"
            )
        yield self._real(reference)
        for column in self.columns:
            began = time.monotonic()
            self.progress.note(f"measuring {column.name}")
            batches = map(self.checkpoint.modality.shown, column.batches())
            features = extract(self.extractor, batches, column.n, self.progress)
            yield self._result(reference, features, column, began)

    @property
    def on_training_data(self) -> bool:
        """Whether the real items are those that the model was trained on."""
        return self.dataset.fingerprint == self.checkpoint.data.fingerprint

    def _open_training(self) -> Dataset | None:
        try:
            return self.checkpoint.open_data(progress=None)
        except RaectlError as error:
            self.progress.note(error.message)
            return None

    def _choose(self, dataset: Dataset) -> np.ndarray:
        """All items, or n of them by the seed, in their order."""
        if len(dataset) <= self.n:
            return dataset.items
        chosen: np.ndarray = dataset.items[
            np.sort(rng.permutation(self.seed, "evaluation items", len(dataset))[: self.n])
        ]
        return chosen

    def _features(self, dataset: Dataset, items: np.ndarray) -> np.ndarray:
        chosen = f"{self.seed}-{len(items)}" if len(items) < len(dataset) else "all"
        modality = self.checkpoint.modality
        key = f"{modality.key}{dataset.fingerprint}-{chosen}"
        return cached_features(self.extractor, items, key, self.progress, modality.shown)

    def _training_features(self) -> torch.Tensor | None:
        training = self.training
        return None if training is None else torch.from_numpy(self._features(training, training.items))

    def _real(self, reference: Reference) -> Measurement:
        """Real items against real ones: training items, or, without any, one half of the real ones and the other.

        Whether they are among the training data is not measured: where these are known, they are.
        """
        began = time.monotonic()
        self.progress.note(f"measuring {REAL}")
        if self.training is not None and not self.on_training_data:
            items = self._choose(self.training)[: len(self.real)]
            return self._result(reference.alone(), self._features(self.training, items), None, began)
        features = reference.features.numpy()
        halves = np.array_split(rng.permutation(self.seed, "evaluation halves", len(features)), 2)
        self.progress.note(f"{REAL}: one half of {self.dataset.source} against the other, so at half the n")
        half = Reference(torch.from_numpy(features[halves[0]]))
        return self._result(half, features[halves[1]], None, began)

    def _result(self, reference: Reference, features: np.ndarray, column: Column | None, began: float) -> Measurement:
        measured: dict[str, Measured] = {}
        for name in self.extractor.set_metrics:
            measured |= resolve("set-metric", name)(reference, torch.from_numpy(features))
        names_here = {"frechet": self.extractor.frechet_name}
        measured = {names_here.get(name, name): value for name, value in measured.items()}
        if column and column.errors:
            measured |= {name: Measured(mean, None) for name, mean in column.errors().items()}
        protocol = {
            "n": len(features),
            "n_real": len(reference.features),
            "seed": self.seed,
            "draws": column.draws if column else None,
            "extractor": self.extractor.key,
            "seconds": round(time.monotonic() - began, 3),
            **self.checkpoint.protocol(self.dataset),
        }
        result = Measurement(column.name if column else REAL, column.density if column else None, measured, protocol)
        self._records = self._records and self.checkpoint.record(result.records, self.progress)
        return result


def _extractor(checkpoint: Checkpoint, features: str | None, weights: Path | None) -> Extractor:
    """That which was asked for, or else the items' first; where it is not installed, the last needs nothing."""
    kind: type[Extractor] = resolve("extractor", _suitable(checkpoint, features))
    try:
        return kind(weights=weights, device=checkpoint.device)
    except UsageError:
        raise
    except RaectlError as error:
        other = f"   (or: --features {checkpoint.modality.extractors[-1]})" if features is None else ""
        raise RaectlError(error.message, error.hint and error.hint + other) from error


def _suitable(checkpoint: Checkpoint, features: str | None) -> str:
    """The name of an extractor of the checkpoint's items.

    Raises:
        UsageError: it is unknown, or one of other items.
    """
    known = checkpoint.modality.extractors
    if features is None and known:
        return known[0]
    if features is None or check("extractor", features) not in known:
        raise UsageError(
            f"there are no features {features or 'at all'} of {checkpoint.data.modality}",
            f"known: {', '.join(known) or 'none'}",
        )
    return features
