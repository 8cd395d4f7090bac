"""Muon for kernels, Adam for all other parameters.

    B <- mu B + (1 - mu) G            G: the gradient of a kernel as a matrix, a row for each of its first axis
    U = NS((1 - mu) G + mu B)         Nesterov's momentum, mu = 0.95
    W <- W - 10 lr sqrt(max(1, rows / columns)) U

NS makes all singular values of a matrix nearly 1, by five steps of X <- (a I + b X X^T + c (X X^T)^2) X from X / |X|:
so all directions of a kernel learn at one rate, where Adam's step follows the few that have the largest gradients.

References: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024 (the coefficients, the
scale). The steps are taken on the smaller of the Gram matrices, whose polynomials commute, so that the wide matrix is
multiplied twice instead of ten times. `torch.optim.Muon` takes matrices only, rounds them to bfloat16, and is three
times as slow on a CPU.
"""

import math
from collections.abc import Collection, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from raectl.model.weights import adam_arrays, adam_layout, load_adam, to_array
from raectl.storage.arrays import Arrays, Spec
from raectl.training.optimizers.base import Optimizer

_MOMENTUM = 0.95
_RATE = 10.0  # over Adam's
_STEPS, _A, _B, _C = 5, 3.4445, -4.7750, 2.0315
_TINY = 1e-7


class Muon(Optimizer):
    """See the module. `lr` is Adam's rate, for biases and batch norm; that of kernels is 10 times as large."""

    def __init__(self, module: nn.Module, lr: float) -> None:
        self._kernels, others = _parts(module)
        self._momentum = [torch.zeros_like(kernel.detach().flatten(1)) for kernel in self._kernels]
        self._adam = torch.optim.Adam(others or [torch.zeros(1)], lr=lr, fused=True)  # it takes no empty list
        self._lr = lr

    @torch.no_grad()
    def step(self) -> None:
        """See `Optimizer`."""
        self._adam.step()
        for kernel, momentum in zip(self._kernels, self._momentum, strict=True):
            if kernel.grad is None:
                continue
            gradient = kernel.grad.flatten(1)
            momentum.lerp_(gradient, 1 - _MOMENTUM)
            update = orthogonalized(gradient.lerp(momentum, _MOMENTUM))
            scale = math.sqrt(max(1.0, len(update) / update.shape[1]))
            kernel.sub_(update.view(kernel.shape), alpha=_RATE * self._lr * scale)

    def set_rate(self, lr: float) -> None:
        """See `Optimizer`."""
        self._lr = lr
        for group in self._adam.param_groups:
            group["lr"] = lr

    def to_arrays(self) -> Arrays:
        """See `Optimizer`."""
        momentum = {f"momentum/{index}": to_array(value) for index, value in enumerate(self._momentum)}
        return adam_arrays(self._adam) | momentum

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """See `Optimizer`."""
        load_adam(self._adam, arrays)
        for index, value in enumerate(self._momentum):
            value.copy_(torch.from_numpy(arrays[f"momentum/{index}"]))

    @staticmethod
    def layout_of(module: nn.Module, names: Collection[str]) -> dict[str, Spec]:
        """See `Optimizer`."""
        kernels, others = _parts(module)
        shapes = {f"momentum/{index}": tuple(kernel.flatten(1).shape) for index, kernel in enumerate(kernels)}
        return adam_layout(others, names) | {name: (shape, "float32") for name, shape in shapes.items()}


def _parts(module: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """The kernels of a module, and its other parameters."""
    parameters = list(module.parameters())
    return [p for p in parameters if p.dim() > 1], [p for p in parameters if p.dim() < 2]


def orthogonalized(matrix: Tensor) -> Tensor:
    """U V^T, nearly, of a matrix U S V^T: (m, n) float32 => (m, n), of singular values from 0.7 to 1.2.

    Those below a thousandth of the matrix's norm come out smaller.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalized(matrix.T).T
    matrix = matrix / (matrix.norm() + _TINY)
    gram = matrix @ matrix.T
    factor = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    for _ in range(_STEPS):
        polynomial = torch.add(_B * gram, gram @ gram, alpha=_C)
        polynomial.diagonal().add_(_A)
        factor = polynomial @ factor
        gram = polynomial @ gram @ polynomial
    result: Tensor = factor @ matrix
    return result
