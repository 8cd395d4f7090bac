"""A module's parameters and buffers, and an optimizer's moments, as named arrays."""

from collections.abc import Collection, Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from raectl.storage.arrays import Arrays, Spec

_MOMENTS = ("exp_avg", "exp_avg_sq")


def to_array(tensor: Tensor) -> np.ndarray:
    """A contiguous copy of a tensor."""
    return np.array(tensor.detach().cpu().contiguous().numpy())  # `numpy()` shares memory


def module_arrays(module: nn.Module) -> Arrays:
    """Parameters and buffers by name."""
    return {name: to_array(tensor) for name, tensor in module.state_dict().items()}


def module_layout(module: nn.Module) -> dict[str, Spec]:
    """Shape and type of each of `module_arrays`."""
    return {name: _spec(tensor) for name, tensor in module.state_dict().items()}


def _spec(tensor: Tensor) -> Spec:
    return tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")


def load_module(module: nn.Module, arrays: Mapping[str, np.ndarray]) -> None:
    """Copy arrays of the module's layout into its parameters and buffers."""
    for name, tensor in module.state_dict().items():
        tensor.copy_(torch.from_numpy(arrays[name]))


def adam_arrays(optimizer: torch.optim.Optimizer) -> Arrays:
    """Adam's moments and step counts, by the parameter's position."""
    return {
        f"{index}/{name}": to_array(value)
        for index, moments in optimizer.state_dict()["state"].items()
        for name, value in moments.items()
    }


def adam_layout(parameters: Iterable[Tensor], present: Collection[str]) -> dict[str, Spec]:
    """Shape and type of each of `adam_arrays`, for the parameters that have moments: before its first step none has."""
    layout: dict[str, Spec] = {}
    for index, parameter in enumerate(parameters):
        if f"{index}/step" in present:
            layout |= {f"{index}/step": ((), "float32")}
            layout |= {f"{index}/{name}": (tuple(parameter.shape), "float32") for name in _MOMENTS}
    return layout


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
