"""The pixels themselves as features, without a network."""

import math

from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from raectl.extractors.images import ImageExtractor

_SIDE = 32  # pixels
_MOST = 3 * _SIDE**2  # D, for the size of the features' covariance


class Pixels(ImageExtractor):
    """Values in [0, 1], channel by channel and row by row: D = C min(H, 32) min(W, 32).

    A side of more than 32 pixels is reduced to 32 by adaptive average pooling, of more than three channels to fewer, so
    that D is at most 3,072. Pixel distances penalize a shift by one
    pixel more than a blur: they rank similar models, and say little about how images look.
    """

    name = "pixels"
    notes = ("pixels compare colours and layout, and hardly see blur: for how images look, use the default features",)
    takes_weights = False
    sees_stored = True
    dim = None

    @property
    def key(self) -> str:
        return f"{self.name}-{_SIDE}px-v1"

    def _features(self, x: Tensor) -> Tensor:
        channels, h, w = x.shape[1:]
        side = min(_SIDE, math.isqrt(_MOST // channels))
        if max(h, w) > side:
            x = adaptive_avg_pool2d(x, (min(h, side), min(w, side)))
        return x.flatten(1) / 255
