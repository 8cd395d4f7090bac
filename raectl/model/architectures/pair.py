"""What an architecture makes: an encoder to features and a decoder from codes, and the layer both kinds end with."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from raectl.errors import UsageError


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


def unpacked(item_shape: tuple[int, ...], axes: tuple[str, ...]) -> tuple[int, ...]:
    """The shape of an item, if it has the axes that an architecture is for.

    Raises:
        UsageError: it has more or fewer.
    """
    if len(item_shape) != len(axes):
        wanted = f"({', '.join(axes)})"
        raise UsageError(f"this --arch is for items of shape {wanted}, not {item_shape}", "leave --arch to the default")
    return item_shape


class Sigmoid(nn.Sigmoid):
    """The sigmoid in float32: in bfloat16 values near 1 would lie 1/256 apart, as far as grey levels."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) => (B, ...) float32 in [0, 1]."""
        return torch.sigmoid(x.float())
