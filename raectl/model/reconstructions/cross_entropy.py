"""The cross-entropy of productions."""

import torch
from torch import Tensor

from raectl.modalities.strings import Strings
from raectl.model.reconstructions.base import Reconstruction

_LEAST = 1e-7  # probabilities are clamped to this before the logarithm, as in Keras
_TINY = 1e-30  # added to probabilities, so that their sum over some productions is positive


class CrossEntropy(Reconstruction):
    """T times the mean binary cross-entropy over an item's T D values, the Grammar VAE's:

        L = -1/D sum_td x log p + (1 - x) log(1 - p)

    with p the decoder's probabilities, normalized over the productions with the true one's left side. The padding after
    a string's end counts too.

    Reference: Kusner, Paige, Hernández-Lobato, "Grammar Variational Autoencoder", ICML 2017, and its code.
    """

    modality: Strings

    def __call__(self, x: Tensor, x_hat: Tensor, step: int) -> Tensor:
        """2 x (B, T, D) => (B,)."""
        with torch.autocast(x.device.type, enabled=False):
            p = (x_hat.float() + _TINY) * self.modality.alternatives(x)
            p = p / p.sum(dim=2, keepdim=True)
            likelihood = torch.where(x > 0.5, p, 1 - p)
            return -likelihood.clamp_min(_LEAST).log().sum(dim=(1, 2)) / x.shape[2]
