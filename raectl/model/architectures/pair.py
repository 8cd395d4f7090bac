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


class Concatenation(nn.ModuleList):
    """What several modules make of one input, side by side: (B, ...) => (B, the sum of their features)."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self], dim=1)


class Sum(nn.ModuleList):
    """The sum of what several modules make of one input: (B, ...) => (B, ...)."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__(branches)

    def forward(self, x: Tensor) -> Tensor:
        first, *others = self
        y: Tensor = first(x)
        for branch in others:
            y = y + branch(x)
        return y


class Sigmoid(nn.Sigmoid):
    """The sigmoid in float32: bfloat16 resolves only 1/256 near 1."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x.float())
