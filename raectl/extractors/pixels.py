"""The pixels themselves as features: no network, and nothing to install."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from raectl.errors import UsageError
from raectl.extractors.images import ImageExtractor

_SIDE = 32  # pixels; D is then at most 3,072, and a covariance of the features still fits into memory


class Pixels(ImageExtractor):
    """Values in [0, 1], channel by channel and row by row: D = C min(H, 32) min(W, 32).

    A side of more than 32 pixels is brought to 32, each new pixel the mean of those it covers. A distance between
    pixels punishes a shift by one pixel more than a blur: it compares models of one kind, and says little of how
    images look.
    """

    name = "pixels"

    def __init__(self, weights: Path | None = None, device: torch.device | str = "cpu") -> None:
        super().__init__(weights, device)
        if weights is not None:
            raise UsageError("the features pixels have no weights", "leave --weights away")

    @property
    def key(self) -> str:
        return f"{self.name}-{_SIDE}px-v1"

    @property
    def dim(self) -> None:
        return None

    def _features(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        if max(h, w) > _SIDE:
            x = adaptive_avg_pool2d(x, (min(h, _SIDE), min(w, _SIDE)))
        return x.flatten(1) / 255
