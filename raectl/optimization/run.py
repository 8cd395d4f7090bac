"""Bayesian optimization of an objective of strings in the latent space of a model.

Each round fits a sparse Gaussian process (see `surrogate`) to the scores of the data's latents and of all points so
far, proposes a batch of points in the bounding box of these latents, and scores the decoded strings. A round depends on
the checkpoint, the data, the options and the rounds before it alone, so a resumed run proposes the same points.

    CKPT/optimize/OBJECTIVE-SEED/
      state.safetensors   the points so far, which a run resumes from
      trace.jsonl         a line per point: round, string, score, whether it is valid
      best.txt            score, tab and string, each once, the best first
      plot.png            all scores, and the best so far

Reference: Kusner, Paige, Hernández-Lobato, "Grammar Variational Autoencoder", ICML 2017, section 4.4, and its code.
"""

import json
import math
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from raectl import registry, rng
from raectl.checkpoint.checkpoint import Checkpoint
from raectl.data import Dataset
from raectl.errors import RaectlError, UsageError
from raectl.generation.drawing import MODE
from raectl.objectives import Objective
from raectl.optimization.result import OptimizationResult
from raectl.optimization.settings import FEWEST, Settings
from raectl.progress import Progress
from raectl.storage.arrays import read_arrays, write_arrays
from raectl.storage.atomic import describing_os_errors, remove_temporaries
from raectl.storage.lock import Lock
from raectl.storage.records import parse

_HELD_OUT = 10  # one latent in so many is held out, to evaluate the surrogate
_ANEW = "begin again: --overwrite"
_NEEDED = ("botorch", "gpytorch", "matplotlib")


def optimize(
    checkpoint: Checkpoint,
    settings: Settings,
    source: str | Path | np.ndarray | None = None,
    *,
    overwrite: bool = False,
    max_bad: float | None = None,
    progress: Progress | None = None,
) -> OptimizationResult:
    """Search for strings with a good score, or resume a search, and store them in the checkpoint's directory.

    Arguments:
        source: data that the surrogate is first fitted to; None for the training data.
        overwrite: discard an earlier run instead of resuming it.
        max_bad: as for `Checkpoint.open_data`.

    Raises:
        UsageError: the earlier run has other options.
        RaectlError: the model is not one of strings, a package is missing, too few of the data are valid, the state is
            damaged, or another process is writing to the checkpoint.
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
        checkpoint.directory.require_own()
        run = _Run(checkpoint, settings, objective, checkpoint.open_data(source, progress, max_bad), progress)
        if not overwrite:
            run.resume()
        run.score_the_data()
        run.begin(overwrite=overwrite)
        run.go()
    return run.result


class _Run:
    """An optimization: the scored data, and the points so far."""

    def __init__(
        self, checkpoint: Checkpoint, settings: Settings, objective: Objective, dataset: Dataset, progress: Progress
    ) -> None:
        self.checkpoint, self.settings, self.objective, self.progress = checkpoint, settings, objective, progress
        self.modality, self.dataset = checkpoint.modality, dataset
        self.identity = {
            "settings": json.dumps(settings.kept(), sort_keys=True),
            "weights": checkpoint.weights,
            "data": dataset.fingerprint,
        }
        path = checkpoint.directory.optimize / f"{settings.objective}-{settings.seed}"
        self.state = path / "state.safetensors"  # which a run resumes from
        none = np.empty((0, checkpoint.config.latent_dim or 0))
        self.result = OptimizationResult(path, settings, objective, math.nan, math.nan, none, [], np.empty(0))

    def score_the_data(self) -> None:
        """Encode and score a random subset of the data, which the surrogate is fitted to."""
        rows = rng.choose(self.settings.seed, "optimization data", len(self.dataset), self.settings.points)
        items = np.asarray(self.dataset.items[rows])
        self.progress.note(f"scoring {len(items):,} of {len(self.dataset):,} strings of the data, and encoding them")
        scores = self.objective(self.modality.shown(items).tolist())
        z = self.checkpoint.encode(items).double().cpu().numpy()
        known = np.isfinite(scores)
        if known.sum() < FEWEST:
            scored = f"{int(known.sum())} of {len(z)} strings of the data have a score"
            message = f"{scored}: too few to learn from, {FEWEST} are needed"
            hint = f"other --data, or another --objective: {', '.join(registry.names('objective'))}"
            raise RaectlError(message, hint)
        self.low, self.high = z.min(axis=0), z.max(axis=0)
        if not (self.high > self.low).any() or not np.isfinite(z).all():
            message = f"{self.checkpoint.directory.path} encodes all these strings alike: there is nothing to search"
            raise RaectlError(message, "other --data, or a model that has learned to tell them apart")
        lower, worst = self.objective.lower_is_better, self.objective.worst
        self.result.worst = float((np.max if lower else np.min)(scores[known]) if worst is None else worst)
        self.data_z, self.data_scores = z, np.where(known, scores, self.result.worst)
        self.result.data_best = float((np.min if lower else np.max)(self.data_scores))

    def resume(self) -> None:
        """Read the points of an earlier run, if there is one."""
        if not self.state.exists():
            return
        arrays, begun = read_arrays(self.state, dict[str, str], hint=_ANEW)
        if begun != self.identity:
            changed = [name for name in self.identity if begun.get(name) != self.identity[name]]
            message = f"{self.result.path} was begun with other {', '.join(changed)}"
            raise UsageError(message, "begin again: --overwrite; or keep it and choose another --seed")
        self._read_state(arrays)
        done = len(self.result.strings) // self.settings.batch
        self.progress.note(f"going on after round {done} of {max(done, self.settings.rounds)}")

    def begin(self, *, overwrite: bool) -> None:
        """Create the directory; with `overwrite`, delete the files of an earlier run."""
        path = self.result.path
        with describing_os_errors(path):
            path.mkdir(parents=True, exist_ok=True)
            remove_temporaries(path)
            for name in (self.state.name, *OptimizationResult.FILES) if overwrite else ():
                (path / name).unlink(missing_ok=True)

    def _read_state(self, arrays: dict[str, np.ndarray]) -> None:
        try:
            z, scores, text = arrays["z"], arrays["scores"], arrays["strings"]
            strings = parse(text.tobytes(), list[str])
            n, d = len(scores), self.result.z.shape[1]
            if z.shape != (n, d) or scores.shape != (n,) or len(strings) != n or n % self.settings.batch:
                raise ValueError("sizes differ")
            if {scores.dtype, z.dtype} != {np.dtype(np.float64)} or np.isinf(scores).any() or not np.isfinite(z).all():
                raise ValueError("finite numbers are expected")
        except (KeyError, TypeError, ValueError) as error:
            raise RaectlError(f"{self.state} is damaged: {error}", _ANEW) from error
        self.result.z, self.result.strings, self.result.scores = z, strings, scores

    def go(self) -> None:
        """Run the remaining rounds."""
        batch = self.settings.batch
        for number in range(len(self.result.strings) // batch + 1, self.settings.rounds + 1):
            self._round(number)
            text = np.frombuffer(json.dumps(self.result.strings).encode(), np.uint8)
            arrays = {"z": self.result.z, "scores": self.result.scores, "strings": text}
            write_arrays(self.state, arrays, self.identity)
            self.result.write_files()
            recent = self.result.scores[-batch:]
            valid, best = np.isfinite(recent).mean(), self.result.best()
            shown = f"best {best[0][0]:.4g}  {best[0][1]}" if best else "none is valid"
            self.progress.note(f"round {number}/{self.settings.rounds}  valid {valid:.2f}  {shown}")
        self.result.write_files()  # an interrupted process may have written its state only

    def _round(self, number: int) -> None:
        from raectl.optimization.surrogate import SparseGP, propose

        result, settings = self.result, self.settings
        span = np.where(self.high > self.low, self.high - self.low, 1.0)
        z = torch.from_numpy((np.concatenate([self.data_z, result.z]) - self.low) / span)
        scores = np.concatenate([self.data_scores, result.counted])
        center, scale = scores.mean(), scores.std() or 1.0
        y = torch.from_numpy((scores - center) / scale * (-1 if self.objective.lower_is_better else 1))
        train = torch.arange(len(z)) % _HELD_OUT != 0
        train[len(self.data_z) :] = True
        self.progress.update(f"round {number}: fitting", number - 1, settings.rounds)
        model = SparseGP(z[train], y[train], min(settings.inducing, int(train.sum())), settings.seed)
        error = scale * float((model.mean(z[~train]) - y[~train]).square().mean().sqrt())
        deviation = scale * float(y[~train].std())
        self.progress.note(f"held-out scores: root mean square error {error:.3g}, standard deviation {deviation:.3g}")
        self.progress.update(f"round {number}: proposing", number - 1, settings.rounds)
        found = propose(model, settings.batch, settings.seed, len(result.strings)).numpy() * span + self.low
        strings = self._decode(found, len(result.strings))
        result.z = np.concatenate([result.z, found])
        result.strings = [*result.strings, *strings]
        scores = self.objective(strings)
        result.scores = np.concatenate([result.scores, np.where(np.isinf(scores), np.nan, scores)])

    def _decode(self, z: np.ndarray, start: int) -> list[str]:
        """The most frequent valid string of several draws from each latent's decoding; empty if no draw is valid."""
        seed, objective = self.settings.seed, self.objective
        modes = [
            self.modality.mode(x_hat, objective.draws, rng.torch_generator(seed, MODE, index), objective.is_valid)
            for index, x_hat in enumerate(self.checkpoint.decode(z).float().cpu(), start)
        ]
        strings: list[str] = self.modality.shown(np.stack(modes)).tolist()
        return strings
