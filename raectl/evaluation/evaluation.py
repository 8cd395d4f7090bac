"""Evaluate a model: every column of the paper's Table 1, by every set metric that its items have.

Columns are compared, as the bytes that `raectl sample` and the like would write, with real items that the model has not
seen. The row `real` compares real items with real items: the difference of two samples of the same data, which for the
Fréchet distance is far from 0 at small n. It is no bound: a reconstruction is nearer to its own original than another
real item is, and where `real` has only half the items, its distance is larger.

The features that sets are judged by can be chosen. Beside them, a modality's `always_measured` names set metrics in
features of their own, such as the sharpness of images; all features are computed from one pass over a set.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from raectl import rng
from raectl.checkpoint.checkpoint import Checkpoint
from raectl.data import Dataset
from raectl.errors import RaectlError, UsageError
from raectl.evaluation.by_class import FEWEST, Classes, class_names
from raectl.evaluation.columns import Column, columns
from raectl.evaluation.features import FeatureSpace, cached_features, extract_all, feature_spaces
from raectl.generation.baseline import baseline
from raectl.generation.drawing import check_draws
from raectl.metrics.reference import Measured, Reference, direction_and_unit
from raectl.progress import Progress

REAL = "real"
DEFAULT_N = 10_000  # the paper's
_NAMED = 5  # classes that a note names
_FEWEST = 12  # items, whatever the features: without training data one half is compared with the other, by 5 neighbours


@dataclass(frozen=True)
class Measurement:
    """One column of Table 1, measured."""

    of: str  # the column's name, see `raectl.evaluation.columns`; `real` for other real items
    density: str | None  # name of the fitted density it rests on, or None
    measured: dict[str, Measured]  # {metric: value and standard error}
    # How it was measured: numbers of items, and of those that were trained on, data, features, seed, kind of
    # interpolation, draws, weights, version, seconds.
    protocol: dict[str, Any]
    # {metric: key of its extractor}, for metrics in other features than the protocol's.
    extractors: Mapping[str, str] = field(default_factory=dict)
    decoder: str | None = None  # which one made the items, if not the one that makes the others
    class_: str | None = None  # the one that was measured; None for all items

    @property
    def label(self) -> str:
        """The column's name for people."""
        return self.of if self.decoder is None else f"{self.of}, {self.decoder} decoder"

    @property
    def records(self) -> list[dict[str, Any]]:
        """A line of metrics.jsonl a number."""
        lines = []
        for name, m in self.measured.items():
            what = {"metric": name, "value": m.value, "se": m.se, "of": self.of, "density": self.density}
            extractor = {"extractor": self.extractors[name]} if name in self.extractors else {}
            lines.append(what | direction_and_unit(name) | self.protocol | extractor)
        return lines


class Evaluation:
    """Measures a checkpoint against real items.

    Arguments:
        source: real items that it has not seen, as `Checkpoint.open_data` takes them.
        n: at most this many real items, chosen by the seed where there are more, and as many samples, reconstructions
            and interpolations.
        features: registry name of the extractor to judge by; None for the modality's own.
        weights: file of the extractor's weights, for one that does not come with any.
        densities: names of fitted densities; by default all that were fitted to the checkpoint's present weights.
        kind: of interpolation, `linear` or `spherical` (the paper's).
        seed: of samples, pairs and choices.
        draws: decode each sample so many times, at random, and keep the most frequent valid item; None for once.
        max_bad: share of the real items that may be bad and are skipped.

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
        check_draws(checkpoint, draws)
        self.progress = progress or Progress()
        self._records = True
        self.checkpoint, self.seed = checkpoint, rng.check_seed(seed)
        self.spaces = feature_spaces(checkpoint, features, weights)
        self.extractor = self.spaces[0].extractor
        self.dataset = checkpoint.open_data(source, self.progress, max_bad)
        if len(self.dataset) < _FEWEST:
            have = f"{len(self.dataset)} item{' is' if len(self.dataset) == 1 else 's are'}"
            message = f"{self.dataset.source}: {have} too few to compare distributions"
            raise RaectlError(message, f"{_FEWEST} at least are needed, and thousands are better")
        self.training = self._open_training()
        self.real = _chosen(self.dataset, rng.permutation(self.seed, "evaluation items", len(self.dataset))[:n])
        self.seen = checkpoint.seen(self.real.items)
        self.training_sample = self._choose_training()
        self.classes = class_names(self.real)
        self.columns = columns(
            checkpoint, self.real.items, self.training, self.classes, densities, kind, seed, draws, self.progress
        )
        for note in self.extractor.notes:
            self.progress.note(note)

    def __iter__(self) -> Iterator[Measurement]:
        """Measure and record one column after the other, that of real items first."""
        references = [self._reference(space) for space in self.spaces]
        n, dim = references[0].features.shape
        if n < dim:
            self.progress.note(
                f"{n:,} real items are fewer than the {dim:,} features: the Fréchet distance is far too high at this "
                f"n, as that of {REAL} shows; trust the kernel distance"
            )
        classes = self._of_classes(references[0])
        yield from self._real(references, classes)
        if self.checkpoint.modality.metrics:
            yield self._baseline()
        for column in self.columns:
            began = time.monotonic()
            self.progress.note(f"measuring {column.name}")
            extractors, show = [space.extractor for space in self.spaces], self.checkpoint.modality.shown
            extracted = extract_all(extractors, column.batches(), column.n, self.progress, show)
            features = [torch.from_numpy(rows) for rows in extracted]
            against = references if column.is_generated else [reference.of_originals() for reference in references]
            yield self._result(against, features, column, began)
            yield from self._by_class(classes, column, features[0], began)

    @property
    def on_training_data(self) -> bool:
        """Whether the real items are those that the model was trained on, whatever their names and their order."""
        return bool(self.checkpoint.protocol(self.dataset, seen=self.seen)["split"] == "training")

    def _open_training(self) -> Dataset | None:
        try:
            return self.checkpoint.open_data()
        except RaectlError as error:
            self.progress.note(error.message)
            return None

    def _choose_training(self) -> Dataset | None:
        """As many of the items trained on as there are real ones, by the seed, or all if they are fewer.

        None if the data are gone, or the real items are the training data.
        """
        if self.training is None or self.on_training_data:
            return None
        rows, _ = self.checkpoint.split(self.training.items)
        order = rng.permutation(self.seed, "evaluation training sample", len(rows))
        return _chosen(self.training, rows[order[: len(self.real)]])

    def _reference(self, space: FeatureSpace) -> Reference:
        """The features of the real items; those of training items are computed when a metric asks for them."""
        later = [self._later(space, dataset) for dataset in (self.training, self.training_sample)]
        return Reference(self._features(space, self.real), *later)

    def _later(self, space: FeatureSpace, dataset: Dataset | None) -> Callable[[], torch.Tensor | None]:
        return lambda: None if dataset is None else self._features(space, dataset)

    def _features(self, space: FeatureSpace, dataset: Dataset) -> torch.Tensor:
        modality = self.checkpoint.modality
        key = modality.key + dataset.fingerprint
        return torch.from_numpy(cached_features(space.extractor, dataset.items, key, self.progress, modality.shown))

    def _of_classes(self, reference: Reference) -> Classes | None:
        """The classes of the real items, if they have some; those with too few items are said to be left out."""
        if self.classes is None:
            return None
        found = Classes(self.spaces[0], reference.features, self.classes)
        if few := found.left_out:
            named = ", ".join(few[:_NAMED]) + (", ..." if len(few) > _NAMED else "")
            self.progress.note(f"not measured alone, as they have fewer than {FEWEST} real items: {named}")
        return found

    def _by_class(
        self, classes: Classes | None, column: Column, features: torch.Tensor, began: float
    ) -> Iterator[Measurement]:
        """The numbers of each class of a set whose items have classes."""
        if classes is None or column.classes is None:
            return
        errors = column.errors() if column.errors else {}
        seen = []
        for name, n, n_real, measured in classes.measure(features, column.classes, errors):
            seen.append(name)
            yield self._recorded(replace(column, n=n), measured, n_real, began, class_=name)
        if missing := [name for name in classes.names if name not in seen]:
            named = ", ".join(missing[:_NAMED]) + (", ..." if len(missing) > _NAMED else "")
            self.progress.note(f"{column.name} has fewer than {FEWEST} items of these classes: {named}")

    def _real(self, references: Sequence[Reference], classes: Classes | None) -> Iterator[Measurement]:
        """Real items against real ones: training items, or, without any, one half of the real ones and the other.

        Whether they are among the training data is not measured: where these are known, they are.
        """
        began = time.monotonic()
        self.progress.note(f"measuring {REAL}")
        if self.training_sample is not None:
            features = [self._features(space, self.training_sample) for space in self.spaces]
            alone = [reference.alone() for reference in references]
            column = Column(REAL, len(self.training_sample), classes=class_names(self.training_sample))
            yield self._result(alone, features, column, began)
            yield from self._by_class(classes, column, features[0], began)
            return
        halves = np.array_split(rng.permutation(self.seed, "evaluation halves", len(self.real)), 2)
        self.progress.note(f"{REAL}: one half of {self.dataset.source} against the other, so at half the n")
        first, second = ([reference.features[half] for reference in references] for half in halves)
        yield self._result([Reference(features) for features in first], second, Column(REAL, len(halves[1])), began)

    def _result(
        self, references: Sequence[Reference], features: Sequence[torch.Tensor], column: Column, began: float
    ) -> Measurement:
        """The numbers of a set, given the real items' and its own features in each space."""
        measured: dict[str, Measured] = {}
        extractors: dict[str, str] = {}
        for space, reference, rows in zip(self.spaces, references, features, strict=True):
            found = space.measure(reference, rows)
            measured |= found
            if space is not self.spaces[0]:
                extractors |= dict.fromkeys(found, space.extractor.key)
        if column.errors:
            measured |= {name: Measured(float(each.mean())) for name, each in column.errors().items()}
        return self._recorded(column, measured, len(references[0].features), began, extractors)

    def _baseline(self) -> Measurement:
        """The errors of the mean image, beside which those of reconstructions are to be read."""
        began = time.monotonic()
        mean, n = baseline(self.checkpoint, self.real.items, self.training), len(self.real)
        self.progress.note(f"measuring {mean.name}, of {mean.of}")
        measured = {name: Measured(value) for name, value in mean.errors.items()}
        return self._recorded(Column(mean.name, n), measured, n, began)

    def _recorded(
        self,
        column: Column,
        measured: dict[str, Measured],
        n_real: int,
        began: float,
        extractors: Mapping[str, str] = MappingProxyType({}),
        class_: str | None = None,
    ) -> Measurement:
        """The numbers of a set with their protocol, which are also appended to the directory's."""
        protocol = {
            "n": column.n,
            "n_real": n_real,
            "seed": self.seed,
            "class": class_,
            "kind": column.kind,
            "draws": column.draws,
            "extractor": self.extractor.key,
            "seconds": round(time.monotonic() - began, 3),
            **self.checkpoint.protocol(self.dataset, column.decoder, self.seen),
        }
        result = Measurement(column.name, column.density, measured, protocol, extractors, column.decoder, class_)
        self._records = self._records and self.checkpoint.record(result.records, self.progress)
        return result


def _chosen(dataset: Dataset, rows: np.ndarray) -> Dataset:
    """The items of some rows, in their order; the data themselves if these are all."""
    if len(rows) == len(dataset):
        return dataset
    rows = np.sort(rows)
    labels = None if dataset.labels is None else dataset.labels[rows]
    return replace(dataset, items=dataset.items[rows], names=(), labels=labels, known_fingerprint=None)
