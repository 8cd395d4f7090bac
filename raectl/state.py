"""One consistent instant of a training run, as named arrays: what resuming starts from, bit for bit."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from raectl import files
from raectl.errors import RaectlError

Arrays = dict[str, np.ndarray]


def to_array(tensor: Tensor) -> np.ndarray:
    """A copy of a tensor on any device, in any memory format, as a contiguous array."""
    return np.array(tensor.detach().cpu().contiguous().numpy())  # on the CPU `numpy()` shares the tensor's memory


def module_arrays(module: nn.Module) -> Arrays:
    """Parameters and buffers by name."""
    return {name: to_array(tensor) for name, tensor in module.state_dict().items()}


def load_module(module: nn.Module, arrays: Mapping[str, np.ndarray], where: str) -> None:
    """Put arrays into a module, which keeps its device and memory format.

    Raises:
        RaectlError: names, shapes or types are not the module's, or a value is not finite.
    """
    own = module.state_dict()
    if set(own) != set(arrays):
        odd = sorted(set(own) ^ set(arrays))[:3]
        raise RaectlError(f"{where} does not hold this model's weights: {', '.join(odd)} missing or too many")
    for name, tensor in own.items():
        array = arrays[name]
        if tuple(tensor.shape) != array.shape or to_array(tensor).dtype != array.dtype:
            raise RaectlError(
                f"{where} does not hold this model's weights: {name} is {array.dtype} {array.shape}, "
                f"not {tensor.dtype} {tuple(tensor.shape)}"
            )
        if not np.isfinite(array).all():
            raise RaectlError(f"{where}: {name} has values that are not finite")
        tensor.copy_(torch.from_numpy(array))


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
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = torch.empty_like(parameter).copy_(torch.from_numpy(arrays[f"{index}/{name}"]))


@dataclass
class Position:
    """Where a run is.

    Arguments:
        epoch: whole epochs done.
        batch: batches done of the next one.
        step: batches done in all; the noise of a step is a function of the seed and this number.
        best_epoch: the epoch of the best weights; 0 are the initial ones.
        best_loss: their validation loss, None before the first.
        stale: epochs since the loss last improved enough for the schedule.
        reference: the loss that the schedule compares with, None before the first.
        lr: the learning rate in force.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_epoch: int = 0
    best_loss: float | None = None
    stale: int = 0
    reference: float | None = None
    lr: float = 1e-3


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
        files.write_arrays(path, arrays, {"position": json.dumps(vars(self.position))})

    @classmethod
    def read(cls, path: Path) -> "TrainingState":
        """The inverse of `write`.

        Raises:
            RaectlError: the file is missing, damaged, or holds something else.
        """
        arrays, metadata = files.read_arrays(path)
        groups: dict[str, Arrays] = {"last": {}, "best": {}, "adam": {}, "epoch": {}}
        try:
            for full, array in arrays.items():
                group, _, name = full.partition(".")
                groups[group][name] = array
            position = Position(**json.loads(metadata["position"]))
            return cls(position, groups["last"], groups["best"], groups["adam"], groups["epoch"]["sums"])
        except (KeyError, TypeError, ValueError) as error:
            raise RaectlError(f"{path} holds no training state: {error}", "restore it from a copy") from error
