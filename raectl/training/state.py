"""One consistent instant of a training run, as named arrays: what resuming starts from, bit for bit."""

import json
import math
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from raectl.errors import RaectlError
from raectl.model.plateau import Schedule
from raectl.model.weights import Arrays, require_shapes, to_array
from raectl.storage.arrays import read_arrays, read_shapes, write_arrays
from raectl.storage.strict_json import parse_json

Shape = tuple[int, ...]
T = TypeVar("T")
_GROUPS = ("last", "best", "adam", "epoch")
_LONGEST = 2**53  # steps
_MOMENTS = ("exp_avg", "exp_avg_sq")


def adam_arrays(optimizer: torch.optim.Optimizer) -> Arrays:
    """Adam's moments and step counts, by the parameter's position."""
    return {
        f"{index}/{name}": to_array(value)
        for index, moments in optimizer.state_dict()["state"].items()
        for name, value in moments.items()
    }


def load_adam(optimizer: torch.optim.Optimizer, arrays: Mapping[str, np.ndarray]) -> None:
    """The inverse of `adam_arrays`; moments take their parameter's memory format, which the fused step needs."""
    for index, parameter in enumerate(optimizer.param_groups[0]["params"]):
        if f"{index}/step" in arrays:
            state = optimizer.state[parameter]
            state["step"] = torch.from_numpy(arrays[f"{index}/step"].copy()).to(
                parameter.device if optimizer.defaults["fused"] else "cpu"
            )
            for name in _MOMENTS:
                state[name] = torch.empty_like(parameter).copy_(torch.from_numpy(arrays[f"{index}/{name}"]))


def _moment_shapes(parameters: Iterable[Tensor], present: Container[str]) -> dict[str, Shape]:
    """Names and shapes of `adam_arrays`, for the parameters that have moments: before its first step none has."""
    expected: dict[str, Shape] = {}
    for index, parameter in enumerate(parameters):
        if f"{index}/step" in present:
            moments = dict.fromkeys(_MOMENTS, tuple(parameter.shape))
            expected |= {f"{index}/{name}": shape for name, shape in {"step": (), **moments}.items()}
    return expected


def require_adam(optimizer: torch.optim.Optimizer, arrays: Mapping[str, np.ndarray]) -> None:
    """Raise a `ValueError` unless arrays have the names, shapes and type of `adam_arrays` of such an optimizer."""
    expected = _moment_shapes(optimizer.param_groups[0]["params"], arrays)
    if {name: array.shape for name, array in arrays.items()} != expected:
        raise ValueError("moments of another optimizer")
    if any(array.dtype != np.float32 or not np.isfinite(array).all() for array in arrays.values()):
        raise ValueError("moments are no numbers")


@dataclass
class Position(Schedule):
    """Where a run is: its place in the learning rate's schedule, and the following.

    Arguments:
        epoch: whole epochs done.
        batch: batches done of the next one.
        step: batches done in all; the noise of a step is a function of the seed and this number.
        best_epoch: the epoch of the weights for use: the best one, or the last one as long as the reconstruction term
            changes; 0 are the initial weights.
        best_loss: the best validation loss, None before the first that can be compared with later ones.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_epoch: int = 0
    best_loss: float | None = None

    def check(self) -> None:
        """Raise a `ValueError` unless every field has its type, and no count is negative."""
        counts = (self.epoch, self.batch, self.step, self.best_epoch, self.stale)
        losses = (loss for loss in (self.best_loss, self.reference) if loss is not None)
        if not all(type(count) is int and 0 <= count < _LONGEST for count in counts):
            raise ValueError("a count is out of range")
        if not all(type(number) is float and math.isfinite(number) for number in (*losses, self.lr)) or self.lr <= 0:
            raise ValueError("a loss or the learning rate is out of range")


@dataclass
class TrainingState:
    """Everything that decides how a run goes on.

    Arguments:
        position: where it is.
        last, best: weights, by name.
        adam: the optimizer's moments.
        sums: (terms,) float64, the epoch's sums of each term so far.
    """

    position: Position
    last: Arrays
    best: Arrays
    adam: Arrays
    sums: np.ndarray

    def write(self, path: Path) -> None:
        """Write it as one file, in one rename."""
        groups = {"last": self.last, "best": self.best, "adam": self.adam, "epoch": {"sums": self.sums}}
        arrays = {f"{group}.{name}": array for group, named in groups.items() for name, array in named.items()}
        write_arrays(path, arrays, {"position": json.dumps(vars(self.position))})

    @classmethod
    def require(cls, path: Path, module: nn.Module) -> None:
        """Raise a `RaectlError` unless a file's header is that of a training state of this module."""
        groups = _grouped(read_shapes(path), path)
        for name in ("last", "best"):
            require_shapes(module, groups[name], str(path))
        expected = _moment_shapes(module.parameters(), groups["adam"])
        if groups["adam"] != expected or set(groups["epoch"]) != {"sums"} or len(groups["epoch"]["sums"]) != 1:
            raise RaectlError(f"{path} holds no training state of this model", "restore it from a copy")

    @classmethod
    def read(cls, path: Path) -> "TrainingState":
        """The inverse of `write`.

        Raises:
            RaectlError: the file is missing, damaged, or holds something else.
        """
        arrays, metadata = read_arrays(path)
        groups = _grouped(arrays, path)
        try:
            position = Position(**parse_json(metadata["position"]))
            position.check()
            sums, adam = groups["epoch"]["sums"], groups["adam"]
            if sums.dtype != np.float64 or not all(
                a.dtype == np.float32 and np.isfinite(a).all() for a in adam.values()
            ):
                raise ValueError("sums or moments are no numbers")
            return cls(position, groups["last"], groups["best"], adam, sums)
        except (KeyError, TypeError, ValueError) as error:
            raise RaectlError(f"{path} holds no training state: {error}", "restore it from a copy") from error


def _grouped(values: Mapping[str, T], path: Path) -> dict[str, dict[str, T]]:
    groups: dict[str, dict[str, T]] = {group: {} for group in _GROUPS}
    for full, value in values.items():
        group, _, name = full.partition(".")
        if group not in groups:
            raise RaectlError(f"{path} holds no training state: {full} is none of it", "restore it from a copy")
        groups[group][name] = value
    return groups
