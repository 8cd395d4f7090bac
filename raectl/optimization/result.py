"""The result of an optimization, and the files that show it."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raectl.objectives import Objective
from raectl.optimization.settings import Settings
from raectl.storage.atomic import atomic_file, write_text


@dataclass
class OptimizationResult:
    """The points that an optimization has proposed, and their scores."""

    FILES = ("trace.jsonl", "best.txt", "plot.png")

    path: Path
    settings: Settings
    objective: Objective
    worst: float  # the score that an invalid string counts as
    data_best: float  # the best score among the data that the surrogate is fitted to
    z: np.ndarray  # (P, d) float64, the points in order
    strings: list[str]  # P strings, empty where no draw is valid
    scores: np.ndarray  # (P,) float64, NaN where the string is invalid

    @property
    def valid(self) -> float:
        """Share of the points whose string is valid."""
        return float(np.isfinite(self.scores).mean())

    @property
    def counted(self) -> np.ndarray:
        """(P,): the scores, with the worst score for invalid strings."""
        return np.where(np.isnan(self.scores), self.worst, self.scores)

    @property
    def mean(self) -> float:
        """Mean of `counted`."""
        return float(self.counted.mean())

    @property
    def mean_of_others(self) -> float | None:
        """Mean over the points whose score is not the worst: the published average."""
        others = self.counted[self.counted != self.worst]
        return float(others.mean()) if len(others) else None

    @property
    def best_so_far(self) -> np.ndarray:
        """(P,): the best score up to each point."""
        best = np.minimum if self.objective.lower_is_better else np.maximum
        return best.accumulate(self.counted)

    @property
    def beats_the_data(self) -> bool:
        """Whether a point has a better score than all data that the surrogate is fitted to."""
        last = self.best_so_far[-1]
        return bool(last < self.data_best if self.objective.lower_is_better else last > self.data_best)

    def best(self) -> list[tuple[float, str]]:
        """Scores and strings, each string once, the best first."""
        found = {text: float(y) for text, y in zip(self.strings, self.scores, strict=True) if np.isfinite(y)}
        pairs = [(score, text) for text, score in found.items()]
        return sorted(pairs, key=lambda pair: pair[0], reverse=not self.objective.lower_is_better)

    def write_files(self) -> None:
        """Write `FILES`."""
        lines = [
            {
                "round": index // self.settings.batch + 1,
                "string": text,
                "score": None if np.isnan(score) else float(score),
                "valid": bool(np.isfinite(score)),
            }
            for index, (text, score) in enumerate(zip(self.strings, self.scores, strict=True))
        ]
        write_text(self.path / "trace.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        write_text(self.path / "best.txt", "".join(f"{score:.6f}\t{text}\n" for score, text in self.best()))
        self._plot(self.path / "plot.png")

    def _plot(self, path: Path) -> None:
        from matplotlib.figure import Figure

        better = "lower" if self.objective.lower_is_better else "higher"
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot(xlabel="points proposed", ylabel=f"{self.settings.objective}, {better} is better")
        numbers = np.arange(1, len(self.strings) + 1)
        axes.scatter(numbers, self.scores, s=8, color="0.7", label="each")
        axes.plot(numbers, self.best_so_far, color="tab:blue", drawstyle="steps-post", label="best so far")
        axes.axhline(self.data_best, color="tab:orange", linestyle=":", label="best of the data")
        axes.legend()
        with atomic_file(path) as temporary:
            figure.savefig(temporary, format="png", dpi=120)
