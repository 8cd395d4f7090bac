"""No regularizer, as a row of its own, so that `--reg none` can be said."""

import torch
from torch import Tensor, nn

from raectl.model.regularizers.base import Regularizer


class NoRegularizer(Regularizer):
    """L = 0."""

    @staticmethod
    def default_weight(data_dim: int, latent_dim: int) -> None:
        """Takes no weight."""
        return

    def penalty(self, decoder: nn.Module, z: Tensor, x_hat: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Zeros, (B,)."""
        return z.new_zeros(len(z))
