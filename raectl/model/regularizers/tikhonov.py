"""Tikhonov (L2) regularization of the decoder's weights."""

import torch
from torch import Tensor, nn

from raectl.model.regularizers.base import Regularizer, kernels


class Tikhonov(Regularizer):
    """L = sum of squares of every convolution and linear kernel of the decoder (RAE-L2; Ghosh et al. 2020, section 3).

    Effective kernels where they are reparametrized; no biases, no batch norm.
    """

    @staticmethod
    def default_weight(data_dim: int, latent_dim: int) -> float:
        """1e-7 D: the released code's 1e-7 on a mean of squares over D values."""
        return 1e-7 * data_dim

    def penalty(self, decoder: nn.Module, z: Tensor, x_hat: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The same value for every item, (B,)."""
        squares = [getattr(layer, name).float().square().sum() for layer, name in kernels(decoder)]
        return torch.stack(squares).sum().expand(len(z))
