"""Noise on the codes in training: about a gradient penalty in the codes' own units, at no cost."""

from typing import ClassVar

import torch
from torch import Tensor

from raectl.config import Option
from raectl.model.regularizers.base import Regularizer


class CodeNoise(Regularizer):
    """The decoder sees z + w s e, e ~ N(0, I), in training; s are the codes' standard deviations over the batch.

    For a small w and a squared error, with J = dD/dz and S = diag(s) (Bishop, "Training with Noise is Equivalent to
    Tikhonov Regularization", Neural Computation 7, 1995, equation 13; terms with second derivatives left out),

        E |D(z + w S e) - x|^2 = |D(z) - x|^2 + w^2 ||J S||_F^2

    It is measured in the codes' own units, so that larger codes do not evade it. Nothing is added to the loss, and
    validation decodes the codes themselves.
    """

    penalizes: ClassVar = False
    weight = Option(0.1, "w, the noise's standard deviation in units of each latent dimension's.", low=0, high=10)

    def perturb(self, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, d) => (B, d), z + w s e."""
        scale = z.detach().std(dim=0, correction=0)
        return z + self.weight * scale * torch.randn(z.shape, generator=generator, device=z.device, dtype=z.dtype)
