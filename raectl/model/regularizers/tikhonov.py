"""Tikhonov (L2) regularization of the decoder's weights."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from raectl.config import WEIGHT
from raectl.model.regularizers.base import Regularizer, kernels


class Tikhonov(Regularizer):
    """L = sum of squares of the decoder's convolution and linear kernels (RAE-L2; Ghosh et al. 2020, section 3).

    Biases and batch norm are not included; for reparametrized kernels, the effective kernel is.
    """

    weight = replace(WEIGHT, shown="1e-7 D")

    @staticmethod
    def default_weight(data_dim: int, latent_dim: int) -> float:
        """1e-7 D, which is 1e-7 in the paper's code (see `loss`)."""
        return 1e-7 * data_dim

    def penalty(self, decoder: nn.Module, z: Tensor, x_hat: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The same value for every item, (B,)."""
        squares = [getattr(layer, name).float().square().sum() for layer, name in kernels(decoder)]
        return torch.stack(squares).sum().expand(len(z))
