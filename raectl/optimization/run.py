"""Bayesian optimization of an objective in the latent space of strings: what a decoder writes where it promises most.

Each round fits a sparse Gaussian process (see `surrogate`) to the scores of the data's latents and of all points so
far, proposes a batch in the box of these latents, and scores the string that each point stands for: the most frequent
valid one of some draws from the decoder. A round is a function of the checkpoint, the data, the options and the rounds
before, so that a run that is stopped and goes on proposes the same points.

    CKPT/optimize/OBJECTIVE-SEED/
      state.safetensors   the points so far: what a stopped run goes on from; its rename is the transaction
      trace.jsonl         a line a point: round, string, score, whether it is valid
      best.txt            score, tab and string, the best first, each once
      plot.png            the best so far, and all scores

Reference: Kusner, Paige, Hernández-Lobato, "Grammar Variational Autoencoder", ICML 2017, section 4.4, and its code.
"""

import json
import math
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from raectl import registry, rng
from raectl.checkpoint.checkpoint import MODE, Checkpoint
from raectl.data import Dataset
from raectl.errors import RaectlError, UsageError
from raectl.objectives import Objective
from raectl.progress import Progress
from raectl.storage.arrays import read_arrays, write_arrays
from raectl.storage.atomic import atomic_file, describing_os_errors, remove_temporaries, write_text
from raectl.storage.lock import Lock

_HELD_OUT = 10  # one of so many latents judges the surrogate
_FEWEST = 20  # latents
_FINDINGS = ("trace.jsonl", "best.txt", "plot.png")
_NEEDED = ("botorch", "gpytorch", "matplotlib")


@dataclass(frozen=True)
class Settings:
    """How an optimization goes; all but the number of rounds is settled when it begins.

    Arguments:
        objective: registry name.
        rounds: in all, also when it goes on.
        batch: points a round.
        points: latents of the data that the surrogate sees, at most; chosen by the seed.
        inducing: points of the surrogate.
        seed: of everything random.

    Raises:
        UsageError: a number is out of range, or there is no such objective.
    """

    objective: str
    rounds: int = 5
    batch: int = 50
    points: int = 5000
    inducing: int = 200
    seed: int = 0

    _RANGES: ClassVar[dict[str, tuple[int, int]]] = {
        "rounds": (1, 10_000),
        "batch": (1, 10_000),
        "points": (_FEWEST, 10_000_000),
        "inducing": (2, 10_000),
    }

    def __post_init__(self) -> None:
        registry.check("objective", self.objective)
        rng.check_seed(self.seed)
        for name, (low, high) in self._RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"--{name} {getattr(self, name)} is out of range: {low} to {high}")

    def kept(self) -> dict[str, Any]:
        """What must be as it was for a run to go on."""
        return {name: value for name, value in asdict(self).items() if name != "rounds"}


@dataclass
class OptimizationResult:
    """What was found.

    Arguments:
        path: the directory.
        settings: as they were asked for.
        objective: what was sought.
        worst: what a string that is not valid counts as.
        data_best: the best score among the data that the surrogate saw.
        z: (P, d) float64, the points proposed, in their order.
        strings: P of them, empty where no draw was valid.
        scores: (P,) float64, NaN where the string is not valid.
    """

    path: Path
    settings: Settings
    objective: Objective
    worst: float
    data_best: float
    z: np.ndarray
    strings: list[str]
    scores: np.ndarray

    @property
    def valid(self) -> float:
        """Share of the points whose string is valid."""
        return float(np.isfinite(self.scores).mean())

    @property
    def counted(self) -> np.ndarray:
        """(P,): the scores, the worst for what is not valid."""
        return np.where(np.isnan(self.scores), self.worst, self.scores)

    @property
    def mean(self) -> float:
        """Of all points."""
        return float(self.counted.mean())

    @property
    def mean_of_others(self) -> float | None:
        """Of the points that do not score the worst, which is the published average."""
        others = self.counted[self.counted != self.worst]
        return float(others.mean()) if len(others) else None

    @property
    def best_so_far(self) -> np.ndarray:
        """(P,): the best score of each point and those before it."""
        best = np.minimum if self.objective.lower_is_better else np.maximum
        return best.accumulate(self.counted)

    @property
    def beats_the_data(self) -> bool:
        """Whether a point has a better score than all of the data that the surrogate saw."""
        last = self.best_so_far[-1]
        return bool(last < self.data_best if self.objective.lower_is_better else last > self.data_best)

    def best(self) -> list[tuple[float, str]]:
        """Scores and strings, the best first, each string once."""
        found = {text: float(y) for text, y in zip(self.strings, self.scores, strict=True) if np.isfinite(y)}
        pairs = [(score, text) for text, score in found.items()]
        return sorted(pairs, key=lambda pair: pair[0], reverse=not self.objective.lower_is_better)


def optimize(
    checkpoint: Checkpoint,
    settings: Settings,
    source: str | Path | np.ndarray | None = None,
    *,
    overwrite: bool = False,
    max_bad: float | None = None,
    progress: Progress | None = None,
) -> OptimizationResult:
    """Look for strings of a good score, or go on looking, and keep them in the checkpoint's directory.

    Arguments:
        source: data whose latents are scored to begin with; None for the training data.
        overwrite: begin again where there is something already.
        max_bad: as `Checkpoint.open_data` takes it.
        progress: receives progress.

    Raises:
        UsageError: this was begun with other options.
        RaectlError: the checkpoint is none of strings, a package is missing, nothing of the data is valid, the state
            is damaged, or another process writes here.
    """
    progress = progress or Progress()
    if not checkpoint.modality.is_drawn:
        message = f"{checkpoint.directory.path} is a model of {checkpoint.data.modality}; only strings can be optimized"
        raise RaectlError(message)
    for name in _NEEDED:
        if find_spec(name) is None:
            raise RaectlError(f"optimize needs {name}, which is not installed", "pip install 'raectl[optimize]'")
    objective: Objective = registry.resolve("objective", settings.objective)()
    with Lock(checkpoint.directory.path, progress.note) as lock:
        lock.acquire()
        run = _Run(checkpoint, settings, objective, checkpoint.open_data(source, progress, max_bad), progress)
        if not overwrite:
            run.take_up()
        run.score_the_data()
        run.begin(overwrite=overwrite)
        run.go()
    return run.result


class _Run:
    """One optimization: the scored data, and the points so far."""

    def __init__(
        self, checkpoint: Checkpoint, settings: Settings, objective: Objective, dataset: Dataset, progress: Progress
    ) -> None:
        self.checkpoint, self.settings, self.objective, self.progress = checkpoint, settings, objective, progress
        self.modality = checkpoint.modality
        self.dataset = dataset
        self.identity = {
            "settings": json.dumps(settings.kept(), sort_keys=True),
            "weights": checkpoint.weights,
            "data": dataset.fingerprint,
        }
        path = checkpoint.directory.optimize / f"{settings.objective}-{settings.seed}"
        none = np.empty((0, checkpoint.config.latent_dim or 0))
        self.result = OptimizationResult(path, settings, objective, math.nan, math.nan, none, [], np.empty(0))

    def score_the_data(self) -> None:
        """What the surrogate knows to begin with."""
        rows = np.sort(
            rng.permutation(self.settings.seed, "optimization data", len(self.dataset))[: self.settings.points]
        )
        items = np.asarray(self.dataset.items[rows])
        self.progress.note(f"scoring {len(items):,} of {len(self.dataset):,} strings of the data, and encoding them")
        # Encoded here and not kept: of a million strings, only these few thousand are looked at.
        scores = self.objective(self.modality.shown(items).tolist())
        z = self.checkpoint.encode(items).double().cpu().numpy()
        known = np.isfinite(scores)
        if known.sum() < _FEWEST:
            message = f"{int(known.sum())} of {len(z)} strings of the data have a score: too few to learn from"
            raise RaectlError(
                message, f"other --data, or another --objective: {', '.join(registry.names('objective'))}"
            )
        self.low, self.high = z.min(axis=0), z.max(axis=0)
        if not (self.high > self.low).any() or not np.isfinite(z).all():
            message = f"{self.checkpoint.directory.path} encodes all these strings alike: there is nothing to search"
            raise RaectlError(message, "other --data, or a model that has learned to tell them apart")
        lower, worst = self.objective.lower_is_better, self.objective.worst
        self.result.worst = float((np.max if lower else np.min)(scores[known]) if worst is None else worst)
        self.data_z, self.data_scores = z, np.where(known, scores, self.result.worst)
        self.result.data_best = float((np.min if lower else np.max)(self.data_scores))

    @property
    def state(self) -> Path:
        """The file of the points so far."""
        return self.result.path / "state.safetensors"

    def take_up(self) -> None:
        """The points of a run that was stopped, if there is one."""
        self.checkpoint.directory.require_own()
        if not self.state.exists():
            return
        try:
            arrays, metadata = read_arrays(self.state)
        except RaectlError as error:
            raise RaectlError(error.message, "begin again: --overwrite") from error
        if metadata != self.identity:
            parts = [name for name in self.identity if metadata.get(name) != self.identity[name]]
            message = f"{self.result.path} was begun with other {', '.join(parts)}"
            raise UsageError(message, "begin again: --overwrite; or keep it and choose another --seed")
        self._take_up(arrays)
        done = len(self.result.strings) // self.settings.batch
        self.progress.note(f"going on after round {done} of {max(done, self.settings.rounds)}")

    def begin(self, *, overwrite: bool) -> None:
        """Make the directory, or clear it."""
        self.checkpoint.directory.require_own()
        path = self.result.path
        with describing_os_errors(path):
            path.mkdir(parents=True, exist_ok=True)
            remove_temporaries(path)
            for name in (self.state.name, *_FINDINGS) if overwrite else ():
                (path / name).unlink(missing_ok=True)

    def _take_up(self, arrays: dict[str, np.ndarray]) -> None:
        try:
            z, scores, text = arrays["z"], arrays["scores"], arrays["strings"]
            strings = json.loads(text.tobytes())
            n, d = len(scores), self.result.z.shape[1]
            if z.shape != (n, d) or scores.shape != (n,) or len(strings) != n or n % self.settings.batch:
                raise ValueError("sizes differ")
            if type(strings) is not list or not all(isinstance(t, str) for t in strings):
                raise ValueError("strings are expected")
            if (
                scores.dtype != np.float64
                or z.dtype != np.float64
                or np.isinf(scores).any()
                or not np.isfinite(z).all()
            ):
                raise ValueError("finite numbers are expected")
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise RaectlError(f"{self.state} is damaged: {error}", "begin again: --overwrite") from error
        self.result.z, self.result.strings, self.result.scores = z, strings, scores

    def go(self) -> None:
        """All rounds that are left."""
        batch = self.settings.batch
        for number in range(len(self.result.strings) // batch + 1, self.settings.rounds + 1):
            self._round(number)
            self._write_state()
            self._write_findings()
            recent = self.result.scores[-batch:]
            valid, best = np.isfinite(recent).mean(), self.result.best()
            shown = f"best {best[0][0]:.4g}  {best[0][1]}" if best else "none is valid"
            self.progress.note(f"round {number}/{self.settings.rounds}  valid {valid:.2f}  {shown}")
        self._write_findings()  # also where a killed process wrote its state and no more

    def _round(self, number: int) -> None:
        from raectl.optimization.surrogate import SparseGP, propose

        result, settings = self.result, self.settings
        span = np.where(self.high > self.low, self.high - self.low, 1.0)
        z = torch.from_numpy((np.concatenate([self.data_z, result.z]) - self.low) / span)
        scores = np.concatenate([self.data_scores, result.counted])
        center, scale = scores.mean(), scores.std() or 1.0
        y = torch.from_numpy((scores - center) / scale * (-1 if self.objective.lower_is_better else 1))
        kept = torch.arange(len(z)) % _HELD_OUT != 0
        kept[len(self.data_z) :] = True
        self.progress.update(f"round {number}: fitting", number - 1, settings.rounds)
        model = SparseGP(z[kept], y[kept], min(settings.inducing, int(kept.sum())), settings.seed)
        error = float((model.mean(z[~kept]) - y[~kept]).square().mean().sqrt())
        spread = float(y[~kept].std())
        self.progress.note(
            f"held-out scores are predicted to {error * scale:.3g}; their deviation is {spread * scale:.3g}"
        )
        self.progress.update(f"round {number}: proposing", number - 1, settings.rounds)
        found = propose(model, settings.batch, settings.seed, len(result.strings)).numpy() * span + self.low
        strings = self._decode(found, len(result.strings))
        result.z = np.concatenate([result.z, found])
        result.strings = [*result.strings, *strings]
        scores = self.objective(strings)
        result.scores = np.concatenate([result.scores, np.where(np.isinf(scores), np.nan, scores)])

    def _decode(self, z: np.ndarray, start: int) -> list[str]:
        """The string that each latent stands for: the most frequent valid one of some draws, or an empty one."""
        seed, objective = self.settings.seed, self.objective
        modes = [
            self.modality.mode(x_hat, objective.draws, rng.torch_generator(seed, MODE, index), objective.is_valid)
            for index, x_hat in enumerate(self.checkpoint.decode(z).float().cpu(), start)
        ]
        strings: list[str] = self.modality.shown(np.stack(modes)).tolist()
        return strings

    def _write_state(self) -> None:
        result = self.result
        text = np.frombuffer(json.dumps(result.strings).encode(), np.uint8)
        write_arrays(self.state, {"z": result.z, "scores": result.scores, "strings": text}, self.identity)

    def _write_findings(self) -> None:
        result = self.result
        lines = [
            {
                "round": index // self.settings.batch + 1,
                "string": text,
                "score": None if np.isnan(score) else float(score),
                "valid": bool(np.isfinite(score)),
            }
            for index, (text, score) in enumerate(zip(result.strings, result.scores, strict=True))
        ]
        write_text(result.path / "trace.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        write_text(result.path / "best.txt", "".join(f"{score:.6f}\t{text}\n" for score, text in result.best()))
        _plot(result, result.path / "plot.png")


def _plot(result: OptimizationResult, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(
        xlabel="points proposed", ylabel=f"{result.settings.objective}, {_direction(result.objective)} is better"
    )
    numbers = np.arange(1, len(result.strings) + 1)
    axes.scatter(numbers, result.scores, s=8, color="0.7", label="each")
    axes.plot(numbers, result.best_so_far, color="tab:blue", drawstyle="steps-post", label="best so far")
    axes.axhline(result.data_best, color="tab:orange", linestyle=":", label="best of the data")
    axes.legend()
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _direction(objective: Objective) -> str:
    return "lower" if objective.lower_is_better else "higher"
