"""What an architecture makes: an encoder to features and a decoder from codes, and the layer both kinds end with."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Pair(NamedTuple):
    """An encoder and its decoder.

    Arguments:
        encoder: (B, *item_shape) => (B, features).
        features: F, the width of the encoder's output, which the code reads.
        decoder: (B, d) => (B, *item_shape). As an `nn.Sequential` it gets the fast gradient penalty.
    """

    encoder: nn.Module
    features: int
    decoder: nn.Module


class Sigmoid(nn.Sigmoid):
    """The sigmoid in float32: in bfloat16 values near 1 would lie 1/256 apart, as far as grey levels."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) => (B, ...) float32 in [0, 1]."""
        return torch.sigmoid(x.float())
