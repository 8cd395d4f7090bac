"""Score a source's items, a row each in the source's order, bad ones too."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from raectl.checkpoint.checkpoint import Checkpoint
from raectl.checkpoint.densities import find
from raectl.checkpoint.items import Seen, read_known
from raectl.checkpoint.sharpened import PLAIN
from raectl.data import Dataset
from raectl.detection.cross_fit import CrossScores, cross_scores, folds
from raectl.detection.ranking import Ranking, ranking
from raectl.detection.table import Row, write_table
from raectl.errors import UsageError
from raectl.metrics.anomaly import Calibration, Scores, check_flag
from raectl.metrics.reference import direction_and_unit
from raectl.progress import Progress

FLAG = 0.01  # default share of typical items that may be flagged
TOP = 10  # oddest items that are named
_BLOCK = 1024  # rows at a time
_COPIED = "a copy of it was trained on"


@dataclass(frozen=True)
class Scored:
    """What was found in a source.

    Arguments:
        n, bad: numbers of items with a score, and without.
        typical: number of items that scores are calibrated by.
        flag: share of typical items that may be flagged.
        odd: number of items that are.
        seen: how many of the items the model has seen; None if that is not known, or none has, by cross-fitting.
        oddest: rows of the oddest items, the oddest first.
        ranking: how well scores rank the items of other classes than the normal one; None without one.
        score: of each item, in the source's order, (n,).
    """

    n: int
    bad: int
    typical: int
    flag: float
    odd: int
    seen: Seen | None
    oddest: tuple[Row, ...]
    ranking: Ranking | None
    score: np.ndarray


class Scoring:
    """Scores of a data set's items by a checkpoint.

    Arguments:
        dataset: as `Checkpoint.open_data` takes it.
        density: name or kind; None for the last one fitted, or the model's prior.
        reference: typical items that the model has not seen; None for those held out of its training.
        flag: share of typical items that may be flagged; None for 1 %, or the least share that they tell apart.
        normal: name of the class whose items are typical, to measure how well others are told from them.
        cross_fit: number of models of which each scores a part of the items, for the data of the training; None to
            score by the checkpoint itself.
        progress: receives progress and notes.

    Raises:
        UsageError, RaectlError: an option is wrong, or there is nothing to calibrate by.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        dataset: Dataset,
        *,
        density: str | None = None,
        reference: str | None = None,
        flag: float | None = None,
        normal: str | None = None,
        cross_fit: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.checkpoint, self.dataset, self.density = checkpoint, dataset, density
        self.progress = progress or Progress()
        self.is_normal = None if normal is None else _class_rows(dataset, normal)
        self.reference = "held out" if reference is None else reference
        self._cross: CrossScores | None = None
        self._calibration: Calibration | None = None
        if cross_fit is None:
            self._calibration = checkpoint.calibration(density, reference, self.progress)
            self.typical, self.models = self._calibration.n, [(checkpoint, np.arange(len(dataset)))]
        else:
            if reference is not None:
                raise UsageError("--cross-fit calibrates by the items themselves, not by --reference", "omit one")
            if dataset.fingerprint != checkpoint.data.fingerprint:
                raise UsageError("--cross-fit is for the data of the training", "omit --data, or --cross-fit")
            self.flag = _flag(flag, len(dataset))  # before any training
            checkpoint.density(density)
            models = folds(checkpoint, dataset, cross_fit, density, self.progress)
            self._cross = cross_scores(models, dataset)
            self.models = self._cross.models
            self.typical, self.reference = len(dataset), "cross-fit"
        self.flag = _flag(flag, self.typical)
        self.known = None if cross_fit else read_known(checkpoint.directory.items, checkpoint.config)
        if self.known is None and not cross_fit:
            items = checkpoint.directory.items
            self.progress.note(f"{items} is missing or damaged: items that were trained on are not recognised")

    def run(self, out: Path | None = None) -> Scored:
        """Score all items; write their rows to a table, if one is given.

        Raises:
            UsageError, RaectlError: the table cannot be written.
        """
        found = _Collected(len(self.dataset))
        rows = self._rows(found)
        if out is None:
            for _ in rows:
                pass
        else:
            write_table(out, rows)
        scored = Scored(
            n=len(self.dataset),
            bad=len(self.dataset.skipped),
            typical=self.typical,
            flag=self.flag,
            odd=int(found.odd.sum()),
            score=found.score,
            seen=None if self.known is None else Seen(len(self.dataset), found.trained_on, found.held_out),
            oddest=tuple(row for _, _, row in sorted(found.oddest, reverse=True)),
            ranking=None if self.is_normal is None else ranking(found.score, ~self.is_normal, found.odd),
        )
        self._record(scored)
        return scored

    def _blocks(self) -> Iterator[Scores]:
        """The scores of consecutive items."""
        if self._cross is not None:
            for start in range(0, len(self.dataset), _BLOCK):
                yield Scores(*(values[start : start + _BLOCK] for values in vars(self._cross.scores).values()))
            return
        assert self._calibration is not None
        density = self.checkpoint.density(self.density)
        for measured in self.checkpoint.measure_blocks(self.dataset.items, density):
            yield self._calibration.scores(measured)

    def _rows(self, found: "_Collected") -> Iterator[Row]:
        """A row an item, bad ones in their places; what the summary needs is collected."""
        dataset, start = self.dataset, 0
        bad = _BadRows(dataset)
        for scores in self._blocks():
            stop = start + len(scores)
            items = dataset.items[start:stop]
            reasons = self._reasons(items, start, found)
            odd = scores.odd(self.flag)
            found.score[start:stop], found.odd[start:stop] = scores.score, odd
            labels = dataset.names[start:stop] or self.checkpoint.modality.labels(items) or range(start, stop)
            columns = (scores.error, scores.log_density, scores.score, scores.percentile, odd)
            for i, values in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
                yield from bad.before(start + i, labels[i])
                row = Row._make((labels[i], self._class(start + i), *values, reasons[i]))
                found.take(row, start + i)
                yield row
            start = stop
            self.progress.update("scoring", stop, len(dataset))
        yield from bad.rest()

    def _class(self, index: int) -> str | None:
        labels = self.dataset.labels
        return None if labels is None else self.dataset.classes[labels[index]]

    def _reasons(self, items: np.ndarray, start: int, found: "_Collected") -> list[str | None]:
        """Which items the model has seen, in words."""
        if self._cross is not None:
            return [_COPIED if is_copied else None for is_copied in self._cross.copied[start : start + len(items)]]
        if self.known is None:
            return [None] * len(items)
        trained_on, held_out = self.known.among(items)
        found.trained_on += int(trained_on.sum())
        found.held_out += int(held_out.sum())
        return ["trained on" if t else "held out" if h else None for t, h in zip(trained_on, held_out, strict=True)]

    def _record(self, scored: Scored) -> None:
        """Lines of metrics.jsonl for the ranking."""
        if scored.ranking is None or self.is_normal is None:
            return
        entry = find(self.checkpoint.directory, self.density)
        protocol = {
            **{"of": "score", "density": entry.name if entry else "prior", "n": scored.n, "typical": scored.typical},
            **{"n_normal": int(self.is_normal.sum()), "flag": scored.flag, "reference": self.reference},
            **self.checkpoint.protocol(self.dataset, PLAIN, scored.seen),
        }
        lines = [
            {"metric": name, "value": m.value, "low": m.low, "high": m.high, **direction_and_unit(name), **protocol}
            for name, m in scored.ranking._asdict().items()
        ]
        self.checkpoint.record(lines, self.progress)


@dataclass
class _Collected:
    """What is kept of all rows."""

    n: int
    trained_on: int = 0
    held_out: int = 0
    oddest: list[tuple[float, int, Row]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.score, self.odd = np.empty(self.n), np.empty(self.n, bool)

    def take(self, row: Row, index: int) -> None:
        """Keep the row if it is one of the oddest."""
        assert row.score is not None
        (heapq.heappush if len(self.oddest) < TOP else heapq.heappushpop)(self.oddest, (row.score, -index, row))


class _BadRows:
    """Rows of the bad items, to be put in their places among the good ones.

    Items with names are sorted by them. Others are lines, and bad ones are named after their numbers, which blank lines
    count in.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._named, self._done = bool(dataset.names), 0
        self._classes = dataset.classes
        self._rows = sorted(dataset.skipped) if self._named else list(dataset.skipped)
        self._blank = np.array(dataset.found.get("blank_lines", ()), np.int64)

    def before(self, index: int, name: str | int) -> Iterator[Row]:
        """Those before good item number `index`."""
        while self._done < len(self._rows) and self._is_before(index, name):
            yield self._next()

    def rest(self) -> Iterator[Row]:
        """Those that are left."""
        while self._done < len(self._rows):
            yield self._next()

    def _is_before(self, index: int, name: str | int) -> bool:
        bad = self._rows[self._done][0]
        if self._named:
            return bad < str(name)
        line = int(bad.split()[1])  # "line 12", or "line 12 (3 of FILE)"
        return line - 1 - self._done - int(np.searchsorted(self._blank, line)) <= index

    def _next(self) -> Row:
        name, reason = self._rows[self._done]
        self._done += 1
        class_ = name.partition("/")[0] if self._classes and "/" in name else None
        return Row(name, class_, None, None, None, None, None, reason)


def _flag(given: float | None, n: int) -> float:
    """The share to flag of n typical items."""
    return max(FLAG, 1 / n) if given is None else check_flag(given, n)


def _class_rows(dataset: Dataset, name: str) -> np.ndarray:
    """Which items are of a class, (N,) bool; a `UsageError` unless some are and some are not."""
    if dataset.labels is None:
        raise UsageError(f"--normal {name}: {dataset.source} has no classes", "a folder of folders has them")
    if name not in dataset.classes:
        raise UsageError(f"--normal {name!r} is no class of {dataset.source}", f"one of {_some(dataset.classes)}")
    found: np.ndarray = np.asarray(dataset.labels) == dataset.classes.index(name)
    if found.all():
        raise UsageError(f"--normal {name}: {dataset.source} has no items of other classes", "omit it")
    return found


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:TOP]) + (", ..." if len(names) > TOP else "")
