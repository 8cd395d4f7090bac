"""Compare checkpoints: their recorded metrics in one table, their items in one picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np

from raectl.checkpoint.checkpoint import Checkpoint
from raectl.checkpoint.densities import list_fitted
from raectl.checkpoint.sharpened import PLAIN
from raectl.data import Dataset
from raectl.errors import RaectlError, UsageError, command
from raectl.generation import interpolation
from raectl.model.table import Model
from raectl.registry import resolve

_SAME = ("data", "n", "extractor")  # what two measurements must share to be comparable


def records(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl that belong to the present weights and decoders, the newest last."""
    lines = [line for line in checkpoint.directory.read_metrics() if line.get("weights") == checkpoint.weights]
    lines = [line for line in lines if line.get("sharpened") in (None, checkpoint.sharp_weights)]
    return [line for line in lines if _is_comparable(line) and _decoder(line) in checkpoint.decoders]


def _decoder(line: Mapping[str, Any]) -> Any:
    return line.get("decoder", PLAIN)


def _is_comparable(line: Mapping[str, Any]) -> bool:
    """Whether a line has the fields that a table of several models needs."""
    numbers = type(line["value"]) in (int, float) and type(line.get("se")) in (int, float, NoneType)
    return numbers and type(line.get("n")) is int and isinstance(line.get("extractor"), str)


Row = dict[str, dict[str, Any]]  # column of Table 1: line of metrics.jsonl


def table(checkpoints: Sequence[Checkpoint], metric: str) -> tuple[dict[str, Any], list[list[Row]]]:
    """One metric of every checkpoint, as far as it was measured in the same way.

    Arguments:
        checkpoints: the models.
        metric: a measure's name, as in metrics.jsonl.

    Returns:
        How it was measured (the newest way of this metric of the first checkpoint): {"data", "n", "extractor"}, and
        for each checkpoint a row for each decoder measured that way, or an empty one.

    Raises:
        RaectlError: nothing was measured of the first checkpoint.
        UsageError: the metric was not measured; the error lists those that were.
    """
    everything = [records(checkpoint) for checkpoint in checkpoints]
    path = checkpoints[0].directory.path
    if not everything[0]:
        raise RaectlError(f"nothing was measured of {path}", command("raectl", "evaluate", path, "--data", "SOURCE"))
    known = list(dict.fromkeys(line["metric"] for line in everything[0]))
    if metric not in known:
        raise UsageError(f"--metric {metric!r} was not measured of {path}", f"measured: {', '.join(known)}")
    measured = [[line for line in lines if line["metric"] == metric] for lines in everything]
    protocol = _protocol(measured[0][-1])
    rows = []
    for checkpoint, lines in zip(checkpoints, measured, strict=True):
        same = [line for line in lines if _protocol(line) == protocol]
        found = [{line["of"]: line for line in same if _decoder(line) == decoder} for decoder in checkpoint.decoders]
        rows.append([row for row in found if row] or [{}])
    return protocol, rows


def _protocol(line: Mapping[str, Any]) -> dict[str, Any]:
    return {name: line.get(name) for name in _SAME}


def write_picture(checkpoints: Sequence[Checkpoint], dataset: Dataset, out: Path, n: int, seed: int) -> None:
    """Rows of the same n items as each model sees them: reconstructions, samples by density, a walk between two.

    Raises:
        UsageError: the data have fewer than n items, or fewer than two.
    """
    if len(dataset) < max(2, n):
        raise UsageError(f"-n {n} is more than the {len(dataset)} items of {dataset.source}", f"-n {len(dataset)}")
    pairs = interpolation.random_pairs(len(dataset), 1, seed)
    items = np.array(dataset.items[:n])
    rows = {"real": items}
    for checkpoint, name in zip(checkpoints, labels(checkpoints), strict=True):
        rows[f"{name}: reconstruction"] = checkpoint.reconstruct(items)
        for density in densities(checkpoint):
            rows[f"{name}: {density or 'prior'}"] = checkpoint.sample(n, seed, density)
        walks = interpolation.interpolate(checkpoint, dataset.items, pairs, max(2, n), "spherical")
        rows[f"{name}: interpolation"] = walks[0, :n]
    checkpoints[0].modality.writer.write_rows(out, list(rows), list(rows.values()))


def labels(checkpoints: Sequence[Checkpoint]) -> list[str]:
    """Short names that tell the checkpoints apart: their directories' last parts, or all of the path."""
    short = [checkpoint.directory.path.resolve().name for checkpoint in checkpoints]
    return short if len(set(short)) == len(short) else [str(checkpoint.directory.path) for checkpoint in checkpoints]


def densities(checkpoint: Checkpoint) -> list[str | None]:
    """Names of the densities fitted to these weights; [None], the prior, if there are none and the model has one."""
    fitted = [e.name for e in list_fitted(checkpoint.directory) if e.encoder == checkpoint.encoder]
    model: Model = resolve("model", checkpoint.config.model)
    return [*fitted] or ([None] if model.prior else [])


def require_alike(checkpoints: Sequence[Checkpoint]) -> None:
    """Raise unless all models are for items of one shape."""
    first = checkpoints[0]
    for other in checkpoints[1:]:
        if other.item_shape != first.item_shape or other.data.modality != first.data.modality:
            shapes = f"{first.item_shape} and {other.item_shape}"
            raise RaectlError(f"{first.directory.path} and {other.directory.path} are for items of shape {shapes}")
