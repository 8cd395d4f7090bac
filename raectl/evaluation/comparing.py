"""Compare checkpoints: their recorded metrics in one table, their items in one picture.

What stands in one table was measured in one way: the protocol. What was measured otherwise is left out, and said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np

from raectl import rng
from raectl.checkpoint.checkpoint import Checkpoint
from raectl.checkpoint.densities import list_fitted
from raectl.checkpoint.sharpened import PLAIN
from raectl.data import Dataset
from raectl.errors import RaectlError, UsageError, command
from raectl.evaluation.columns import INTERPOLATION, RECONSTRUCTION, N
from raectl.generation import interpolation
from raectl.model.table import Model
from raectl.registry import resolve

# What two measurements must share to be comparable; interpolations their kind too, and samples their draws.
_SAME = ("data", "n", "n_real", "extractor", "seed")
_OWN = ("kind", "draws")


def records(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl that belong to the present weights and decoders, the newest last; not of classes."""
    lines = [line for line in checkpoint.directory.read_metrics() if line.get("weights") == checkpoint.weights]
    lines = [line for line in lines if line.get("sharpened") in (None, checkpoint.sharp_weights)]
    return [line for line in lines if _is_comparable(line) and _decoder(line) in checkpoint.decoders]


def _decoder(line: Mapping[str, Any]) -> Any:
    return line.get("decoder", PLAIN)


def _is_comparable(line: Mapping[str, Any]) -> bool:
    """Whether a line has the fields that a table of several models needs."""
    numbers = type(line["value"]) in (int, float) and type(line.get("se")) in (int, float, NoneType)
    return (
        numbers and line.get("class") is None and type(line.get("n")) is int and isinstance(line.get("extractor"), str)
    )


Row = dict[str, dict[str, Any]]  # column of Table 1: line of metrics.jsonl


@dataclass(frozen=True)
class Table:
    """One metric of several checkpoints."""

    protocol: dict[str, Any]  # how it was measured: {"data", "n", "n_real", "extractor", "seed", "kind", "draws"}
    rows: list[list[Row]]  # for each checkpoint a row for each decoder measured that way, or an empty one
    # For each checkpoint what was measured otherwise: the fields that differ, and the columns `of` it.
    left_out: list[list[dict[str, Any]]]


def table(checkpoints: Sequence[Checkpoint], metric: str) -> Table:
    """One metric of every checkpoint, as far as it was measured in the newest way of the first one.

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
    protocol = _protocol(measured[0])
    rows, left_out = [], []
    for checkpoint, lines in zip(checkpoints, measured, strict=True):
        same = [line for line in lines if not _difference(line, protocol)]
        found = [{line["of"]: line for line in same if _decoder(line) == decoder} for decoder in checkpoint.decoders]
        rows.append([row for row in found if row] or [{}])
        left_out.append(_grouped(lines, protocol))
    return Table(protocol, rows, left_out)


def _protocol(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """That of the newest line; of its like, the newest interpolations' kind and the newest samples' draws."""
    protocol = {name: lines[-1].get(name) for name in _SAME}
    alike = [line for line in lines if not _difference(line, protocol)]
    of = [(_own_field(line), line) for line in alike]
    return protocol | {name: next((x.get(name) for own, x in of[::-1] if own == name), None) for name in _OWN}


def _own_field(line: Mapping[str, Any]) -> str | None:
    """What a line's protocol has beyond that of others: of interpolations their kind, of samples their draws."""
    if line["of"].startswith(INTERPOLATION):
        return "kind"
    is_sample = line.get("density") is not None or line["of"].partition(",")[0] == N
    return "draws" if is_sample and not line["of"].startswith(f"{RECONSTRUCTION} ") else None


def _difference(line: Mapping[str, Any], protocol: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a line that are not as in a protocol."""
    own = _own_field(line)
    names = [*_SAME, own] if own else _SAME
    return {name: line.get(name) for name in names if name in protocol and line.get(name) != protocol[name]}


def _grouped(lines: Sequence[Mapping[str, Any]], protocol: Mapping[str, Any]) -> list[dict[str, Any]]:
    groups: dict[str, dict[str, Any]] = {}
    for line in lines:
        if difference := _difference(line, protocol):
            group = groups.setdefault(repr(difference), {**difference, "of": []})
            group["of"] += [line["of"]] if line["of"] not in group["of"] else []
    return list(groups.values())


def write_picture(checkpoints: Sequence[Checkpoint], dataset: Dataset, out: Path, n: int, seed: int) -> None:
    """Rows of the same n items as each model sees them: reconstructions, samples by density, a walk between two.

    The seed chooses the items and the pair.

    Raises:
        UsageError: the data have fewer than n items, or fewer than two.
    """
    if len(dataset) < max(2, n):
        raise UsageError(f"-n {n} is more than the {len(dataset)} items of {dataset.source}", f"-n {len(dataset)}")
    pairs = interpolation.random_pairs(len(dataset), 1, seed)
    items = np.array(dataset.items[rng.choose(seed, "compared items", len(dataset), n)])
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
