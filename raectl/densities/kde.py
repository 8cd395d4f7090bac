"""Kernel density estimation with a Gaussian kernel."""

import math

import numpy as np
import torch
from torch import Tensor

from raectl.densities.base import LOG_2PI, Arrays, Density, check_positive
from raectl.rng import to_normal, uniforms

_COLUMNS = 8192  # training latents in a block of distances


class KDE(Density):
    """p(z) = 1/N sum_i N(z; z_i, h^2 I).

    Reference: Parzen, "On Estimation of a Probability Density Function and Mode", Annals of Mathematical Statistics
    33, 1962.

    Arguments:
        bandwidth: h, in the latents' units. The default is that of the paper's released code.

    Example:
        >>> KDE(bandwidth=1.0).fit([[0.0]]).log_prob([[0.0]])
        tensor([-0.9189], dtype=torch.float64)
    """

    name = "kde"

    def __init__(self, *, bandwidth: float = 0.425) -> None:
        super().__init__()
        self.bandwidth = check_positive("bandwidth", bandwidth)

    def to_arrays(self) -> dict[str, np.ndarray]:
        d = self.dim
        return {"latents": self._latents.numpy().reshape(-1, d).copy()}

    def _fit(self, z: Tensor, seed: int) -> None:
        self._latents = z.double().clone()
        self.stats = {"parameters": z.numel()}

    def _width(self) -> int:
        return min(_COLUMNS, len(self._latents))

    def _draw(self, seed: int, start: int, n: int) -> np.ndarray:
        u = uniforms(seed, start, n, 1 + self.dim)
        # u < 1, but the product can round up to N.
        row = np.minimum((u[:, 0] * len(self._latents)).astype(np.int64), len(self._latents) - 1)
        z: np.ndarray = self._latents.numpy()[row] + self.bandwidth * to_normal(u[:, 1:])
        return z

    def _log_prob(self, z: Tensor) -> Tensor:
        total = torch.full((len(z),), -math.inf, dtype=torch.float64)
        for part in torch.split(self._latents, _COLUMNS):
            # |a|^2 + |b|^2 - 2ab would cancel where a and b are near.
            distances = torch.cdist(z, part, compute_mode="donot_use_mm_for_euclid_dist")
            near = torch.logsumexp(-0.5 * (distances / self.bandwidth).square(), dim=1)
            total = torch.logaddexp(total, near)
        return total - math.log(len(self._latents)) - self.dim * (math.log(self.bandwidth) + 0.5 * LOG_2PI)

    def _adopt(self, arrays: Arrays) -> int:
        self._latents = arrays.tensor("latents", (None, None))
        arrays.finish()
        return self._latents.shape[1]
