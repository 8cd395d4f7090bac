"""A module's parameters and buffers as named arrays."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from raectl.errors import RaectlError

Arrays = dict[str, np.ndarray]


def to_array(tensor: Tensor) -> np.ndarray:
    """A contiguous copy of a tensor."""
    return np.array(tensor.detach().cpu().contiguous().numpy())  # `numpy()` shares memory


def module_arrays(module: nn.Module) -> Arrays:
    """Parameters and buffers by name."""
    return {name: to_array(tensor) for name, tensor in module.state_dict().items()}


def require_shapes(module: nn.Module, shapes: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Raise a `RaectlError` unless a module's parameters and buffers have these names and shapes."""
    own = module.state_dict()
    if set(own) != set(shapes):
        names = ", ".join(sorted(set(own) ^ set(shapes))[:3])
        raise RaectlError(f"{where} does not hold this model's weights: {names} missing or too many")
    for name, tensor in own.items():
        if tuple(tensor.shape) != shapes[name]:
            raise RaectlError(
                f"{where} does not hold this model's weights: {name} is {shapes[name]}, not {tuple(tensor.shape)}"
            )


def load_module(module: nn.Module, arrays: Mapping[str, np.ndarray], where: str) -> None:
    """Copy arrays into a module's parameters and buffers.

    Raises:
        RaectlError: names, shapes or types are not the module's, or a value is not finite.
    """
    require_shapes(module, {name: array.shape for name, array in arrays.items()}, where)
    for name, tensor in module.state_dict().items():
        array, dtype = arrays[name], str(tensor.dtype).removeprefix("torch.")
        if array.dtype != dtype:
            raise RaectlError(f"{where} does not hold this model's weights: {name} is {array.dtype}, not {dtype}")
        if not np.isfinite(array).all():
            raise RaectlError(f"{where}: {name} has values that are not finite")
        tensor.copy_(torch.from_numpy(array))
