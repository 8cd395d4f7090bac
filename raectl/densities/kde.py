"""Kernel density estimation with a Gaussian kernel."""

import math

import numpy as np
import torch
from torch import Tensor

from raectl.config import Option
from raectl.densities.base import LOG_2PI, Arrays, Density
from raectl.densities.latents.oddities import too_few
from raectl.densities.latents.standardizer import Standardizer
from raectl.rng import normals, uniforms

_COLUMNS = 8192  # training latents in a block of distances


class KDE(Density):
    """p(z) = 1/N sum_i N(z; z_i, h^2 diag(s^2)), s the standard deviations of the latents' dimensions.

    Reference: Parzen, "On Estimation of a Probability Density Function and Mode", Annals of Mathematical Statistics
    33, 1962.

    Example:
        >>> KDE(bandwidth=1.0).fit([[-1.0], [1.0]]).log_prob([[0.0]])
        tensor([-1.4189], dtype=torch.float64)
    """

    name = "kde"

    # The paper's code has this default in the latents' units, that is s = 1.
    bandwidth = Option(0.425, "h, in standard deviations of each dimension.", above=0)

    def _to_arrays(self) -> dict[str, Tensor]:
        return {"latents": self._latents, "scale": self._scale}

    def _fit(self, z: Tensor, seed: int) -> None:
        self._latents, self._scale = z.double().clone(), Standardizer.fit_near(z).scale
        self.stats = {"parameters": z.numel()}
        self.notices = too_few(z)

    def _width(self) -> int:
        return min(_COLUMNS, len(self._latents))

    def _draw(self, seed: int, start: int, n: int) -> np.ndarray:
        u = uniforms(seed, start, n, 1, "rows")[:, 0]
        # u < 1, but the product can round up to N.
        row = np.minimum((u * len(self._latents)).astype(np.int64), len(self._latents) - 1)
        noise = self.bandwidth * self._scale.numpy() * normals(seed, start, n, self._d)
        z: np.ndarray = self._latents.numpy()[row] + noise
        return z

    def _log_prob(self, z: Tensor) -> Tensor:
        total = torch.full((len(z),), -math.inf, dtype=torch.float64)
        widths = self.bandwidth * self._scale
        for part in torch.split(self._latents, _COLUMNS):
            # |a|^2 + |b|^2 - 2ab would cancel where a and b are near.
            distances = torch.cdist(z / widths, part / widths, compute_mode="donot_use_mm_for_euclid_dist")
            near = torch.logsumexp(-0.5 * distances.square(), dim=1)
            total = torch.logaddexp(total, near)
        return total - math.log(len(self._latents)) - float(widths.log().sum()) - 0.5 * self._d * LOG_2PI

    def _adopt(self, arrays: Arrays) -> int:
        self._latents = arrays.take("latents", (None, None))
        self._scale = arrays.take("scale", (self._latents.shape[1],))
        if not (self._scale > 0).all():
            arrays.refuse("a scale is not positive")
        return self._latents.shape[1]
