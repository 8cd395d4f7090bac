"""The result of an architecture: an encoder and a decoder."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from raectl.errors import UsageError


class Pair(NamedTuple):
    """An encoder and its decoder."""

    encoder: nn.Module  # (B, *item_shape) => (B, features)
    features: int  # F, the number of features
    decoder: nn.Module  # (B, d) => (B, *item_shape); an `nn.Sequential` if possible, for a fast gradient penalty


def unpacked(item_shape: tuple[int, ...], axes: tuple[str, ...]) -> tuple[int, ...]:
    """`item_shape`, or a `UsageError` if it does not have the axes that an architecture is for."""
    if len(item_shape) != len(axes):
        wanted = f"({', '.join(axes)})"
        raise UsageError(f"this --arch is for items of shape {wanted}, not {item_shape}", "omit --arch")
    return item_shape


class Sigmoid(nn.Sigmoid):
    """The sigmoid in float32: bfloat16 resolves only 1/256 near 1."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x.float())
