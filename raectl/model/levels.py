"""Black and white points: what gives decoded images as much pure black and white as real ones have."""

import numpy as np
import torch
from torch import Tensor, nn

from raectl.data.images.units import to_bytes

_LEVELS = 256
_FARTHEST = 16  # levels between a point and the end of the scale
FEWEST = 50_000  # values of a channel; fewer say too little


class Levels(nn.Module):
    """Values near black become black, those near white white: (B, C, ...) in [0, 1] => the same.

        T(v) = max(0, min(v, 2 (v - black)))                near black; v from 2 black on
        T(v) = 1 - max(0, min(1 - v, 2 (white - v)))        near white

    It takes off the haze that a sigmoid leaves: a background of 2 / 255 where images have 0, which a critic can hardly
    see. Continuous, monotone, and the identity before `fit`, in between, and where real images have no pure black or
    white.

    Example:
        >>> Levels(1)(torch.tensor([[0.25]])).item()
        0.25
    """

    points: Tensor  # (C, 2), black and white, 0 and 1 at first

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("points", torch.tensor([0.0, 1.0]).repeat(channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        black, white = self.points.view(1, -1, 2, *[1] * (x.dim() - 2)).unbind(dim=2)
        x = torch.minimum(x, 2 * (x - black)).clamp_min(0)
        return 1 - torch.minimum(1 - x, 2 * (white - x)).clamp_min(0)

    def fit(self, decoded: np.ndarray, real: np.ndarray) -> None:
        """Choose the points by decoded images and the real ones that they stand for: 2 x (N, H, W, C).

        Black is the highest of the first 17 levels up to which decoded images have no larger a share of their values
        than real ones have at 0; white likewise. Fewer than 50,000 values of a channel leave the points as they are.
        """
        if real[..., 0].size < FEWEST:
            return
        for channel in range(real.shape[-1]):
            ours, theirs = (
                np.bincount(to_bytes(items[..., channel]).ravel(), minlength=_LEVELS) / items[..., channel].size
                for items in (decoded, real)
            )
            black = _reach(ours, theirs[0])
            white = _LEVELS - 1 - _reach(ours[::-1], theirs[-1])
            self.points[channel] = torch.tensor([black, white]) / (_LEVELS - 1)


def are_valid(points: np.ndarray) -> bool:
    """Whether points (C, 2) have 0 <= black < white <= 1 in every channel."""
    black, white = points.T
    return bool(((black >= 0) & (black < white) & (white <= 1)).all())


def _reach(shares: np.ndarray, share: float) -> int:
    """The last of the first levels up to which there is no more than a share; 0 if there is more at the first one."""
    return max(0, int((np.cumsum(shares[: _FARTHEST + 1]) <= share).sum()) - 1)


class SharpDecoder(nn.Module):
    """A sharpened decoder, (B, d) => (B, C, H, W), and the levels of its images: (B, d) => (B, C, H, W) in [0, 1]."""

    def __init__(self, decoder: nn.Module, channels: int) -> None:
        super().__init__()
        self.decoder, self.levels = decoder, Levels(channels)

    def forward(self, z: Tensor) -> Tensor:
        x_hat: Tensor = self.levels(self.decoder(z).float())
        return x_hat
