"""Scores of the very items that a model is trained on: each by a model that has not seen it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from raectl.checkpoint.checkpoint import Checkpoint, load
from raectl.checkpoint.densities import FittedDensity, find
from raectl.checkpoint.directory import Directory
from raectl.checkpoint.items import read_known
from raectl.config import Config
from raectl.data import Dataset
from raectl.errors import Interrupted, RaectlError, UsageError
from raectl.metrics.anomaly import Calibration, Measures, Scores, ranked
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
    with describing_os_errors(checkpoint.directory.cross_fit):
        checkpoint.directory.cross_fit.mkdir(exist_ok=True)
    for fold in range(k):
        path = checkpoint.directory.cross_fit / f"{fold + 1}-of-{k}"
        config = checkpoint.config.replace(
            val_fraction=1 / k, fold=fold, sharpen=False, device=str(checkpoint.device), max_bad=1.0
        )
        entry = find(checkpoint.directory, density)
        model = _finished(path, config, dataset, entry)
        if model is None:
            progress.note(f"model {fold + 1} of {k}, trained without part {fold + 1} of the items")
            model = _trained(path, config, checkpoint, dataset, progress)
            model.training_data = dataset  # with its classes
            if entry:
                options = {**entry.options, "per_class": bool(entry.classes)}
                model.fit_density(entry.kind, seed=entry.seed, progress=progress, **options)
        yield model


def _finished(path: Path, config: Config, dataset: Dataset, entry: FittedDensity | None) -> Checkpoint | None:
    """A model whose training was finished, as its density shows, or None; then it is trained, or goes on."""
    try:
        model = load(path, str(config.device))
        own = find(model.directory, None)
        is_it = _is_of(model.config, config) and model.data.fingerprint == dataset.fingerprint
        if not is_it or own is None or entry is None or own.encoder != model.encoder:
            return None
        if _what(own) != _what(entry):
            return None
        model.density()
    except RaectlError:
        return None
    model.training_data = dataset
    return model


def _what(entry: FittedDensity) -> tuple[object, ...]:
    """What was fitted, whatever the latents."""
    return entry.kind, entry.options, entry.seed, bool(entry.classes)


def _is_of(stored: Config, config: Config) -> bool:
    """Whether two configurations differ in the machine alone."""
    return stored.replace(device=config.device, precision=config.precision) == config


def _trained(path: Path, config: Config, checkpoint: Checkpoint, dataset: Dataset, progress: Progress) -> Checkpoint:
    """Train a model, or go on with it; what is damaged or of other options is replaced."""
    directory = Directory(path)
    is_begun = False
    with contextlib.suppress(RaectlError):
        record = directory.read_config()
        is_begun = _is_of(record.resolved, config) and record.data.fingerprint == dataset.fingerprint
        config = config.replace(precision=record.resolved.precision) if is_begun else config
    source = dataset if checkpoint.training_data is dataset else dataset.source

    def run(resume: bool) -> Checkpoint:
        anew = path.exists() and not resume
        return train(config, source, path, resume=resume, overwrite=anew, parents=False, progress=progress)

    try:
        try:
            return run(resume=is_begun)
        except (Interrupted, UsageError):
            raise
        except RaectlError:
            if not is_begun:
                raise
            return run(resume=False)
    except Interrupted as error:
        raise Interrupted(error.message, "the same command goes on there", signum=error.exit_code - 128) from error


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

    An item's error is calibrated by those of all items, which models of the same options reconstruct alike; its
    log-density by those of its part, since each model has latents of its own. Percentiles are among all items.
    """
    parts, used, copied = [], [], np.zeros(len(dataset), bool)
    for model in models:
        _, rows = model.split(dataset.items)
        if known := read_known(model.directory.items, model.config):
            copied[rows] = known.among(dataset.items, rows)[0]
        parts.append(Measures.joined([*model.measure_blocks(dataset.items, model.density(), rows)]))
        used.append((model, rows))
    errors = Measures.joined(parts)
    found = [Calibration(part, errors).scores(part) for part in parts]
    order = np.argsort(np.concatenate([rows for _, rows in used]))
    error, log_density, score = (
        np.concatenate([getattr(part, name) for part in found])[order] for name in ("error", "log_density", "score")
    )
    lower, percentile = ranked(np.sort(score), score)
    scores = Scores(error, log_density, score, percentile, 1 - lower / len(score))
    return CrossScores(scores, used, copied)
