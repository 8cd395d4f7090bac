"""Scores of the very items that a model is trained on: each by a model that has not seen it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from raectl.checkpoint.checkpoint import Checkpoint
from raectl.checkpoint.densities import find
from raectl.checkpoint.directory import Directory
from raectl.checkpoint.items import read_known
from raectl.data import Dataset
from raectl.errors import Interrupted, RaectlError, UsageError
from raectl.metrics.anomaly import Calibration, Measures, Scores
from raectl.progress import Progress
from raectl.storage.atomic import describing_os_errors
from raectl.training.run import train

MOST_FOLDS = 100


def folds(
    checkpoint: Checkpoint, dataset: Dataset, k: int, density: str | None, progress: Progress
) -> Iterator[Checkpoint]:
    """K models like a checkpoint's, each trained on all but one of K parts of its data, with a density like its own.

    They are kept in the directory, in `cross-fit/`, and trained there once; an interrupted training is resumed.

    Raises:
        UsageError: K does not suit the data.
    """
    if not 2 <= k <= min(MOST_FOLDS, len(dataset) // 2):
        message = f"--cross-fit {k} is out of range: 2 to {MOST_FOLDS}, and two items a part at least"
        raise UsageError(message, "--cross-fit 5")
    for fold in range(k):
        progress.note(f"model {fold + 1} of {k}, trained without part {fold + 1} of the items")
        path = checkpoint.directory.cross_fit / f"{fold + 1}-of-{k}"
        yield _fold(checkpoint, dataset, path, k, fold, density, progress)


def _fold(
    checkpoint: Checkpoint, dataset: Dataset, path: Path, k: int, fold: int, density: str | None, progress: Progress
) -> Checkpoint:
    config = checkpoint.config.replace(val_fraction=1 / k, fold=fold, sharpen=False)
    directory = Directory(path)
    is_there, is_begun = path.exists(), False
    with contextlib.suppress(RaectlError):  # missing, or damaged: made anew
        record = directory.read_config()
        is_begun = record.resolved == config and record.data.fingerprint == dataset.fingerprint
    source = dataset.items if checkpoint.training_data is dataset else dataset.source
    overwrite = is_there and not is_begun
    with describing_os_errors(path.parent):
        path.parent.mkdir(exist_ok=True)
    try:
        fitted = train(config, source, path, resume=is_begun, overwrite=overwrite, parents=False, progress=progress)
    except Interrupted as error:
        raise Interrupted(error.message, "the same command goes on there", signum=error.exit_code - 128) from error
    fitted.training_data = dataset
    entry = find(checkpoint.directory, density)
    own = find(directory, None)
    if entry and (
        own is None or (own.kind, own.options) != (entry.kind, entry.options) or own.encoder != fitted.encoder
    ):
        fitted.fit_density(entry.kind, seed=entry.seed, progress=progress, **entry.options)
    return fitted


class CrossScores(NamedTuple):
    """The scores of all items of a data set, each by a model that was not trained on it.

    Arguments:
        models: with the indices of the items that each scored.
        copied: which items have a copy in another part, on which their model was trained, (N,) bool.
    """

    scores: Scores
    models: list[tuple[Checkpoint, np.ndarray]]
    copied: np.ndarray


def cross_scores(models: Iterator[Checkpoint], dataset: Dataset) -> CrossScores:
    """Score each item of a data set by the model that has not seen it.

    An item's error and log-density are standardized by those of its part, as its model has them, since the scales of
    two models differ. Its percentile is then among the scores of all items.
    """
    parts, used, copied = [], [], np.zeros(len(dataset), bool)
    for model in models:
        _, rows = model.split(dataset.items)
        if known := read_known(model.directory.items, model.config):
            copied[rows] = known.among(dataset.items, rows)[0]
        found = Measures.joined([*model.measure_blocks(dataset.items, model.density(), rows)])
        parts.append(Calibration(found).scores(found))
        used.append((model, rows))
    order = np.argsort(np.concatenate([rows for _, rows in used]))
    error, log_density, score = (
        np.concatenate([getattr(part, name) for part in parts])[order] for name in ("error", "log_density", "score")
    )
    ranked, n = np.sort(score), len(score)
    lower, not_higher = (np.searchsorted(ranked, score, side) for side in ("left", "right"))
    scores = Scores(error, log_density, score, 50 * (lower + not_higher) / n, (n - lower) / n)
    return CrossScores(scores, used, copied)
