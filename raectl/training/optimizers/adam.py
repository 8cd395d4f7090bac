"""Adam (Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015): the paper's optimizer."""

from collections.abc import Collection, Mapping

import numpy as np
import torch
from torch import nn

from raectl.model.weights import adam_arrays, adam_layout, load_adam
from raectl.storage.arrays import Arrays, Spec
from raectl.training.optimizers.base import Optimizer


class Adam(Optimizer):
    """PyTorch's, fused, with its default moments."""

    def __init__(self, module: nn.Module, lr: float) -> None:
        self._adam = torch.optim.Adam(module.parameters(), lr=lr, fused=True)

    def step(self) -> None:
        """See `Optimizer`."""
        self._adam.step()

    def set_rate(self, lr: float) -> None:
        """See `Optimizer`."""
        for group in self._adam.param_groups:
            group["lr"] = lr

    def to_arrays(self) -> Arrays:
        """See `Optimizer`."""
        return adam_arrays(self._adam)

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """See `Optimizer`."""
        load_adam(self._adam, arrays)

    @staticmethod
    def layout_of(module: nn.Module, names: Collection[str]) -> dict[str, Spec]:
        """See `Optimizer`."""
        return adam_layout(module.parameters(), names)
