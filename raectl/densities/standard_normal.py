"""The standard normal density: the prior that variational autoencoders are trained towards."""

import numpy as np
import torch
from torch import Tensor

from raectl.densities.base import LOG_2PI, Arrays, Density
from raectl.rng import normals

_FACTOR = 2.0  # between standard deviations of the latents and 1, from which on it is said
_AWAY = 1.0


class StandardNormal(Density):
    """p(z) = N(z; 0, I). Only d is taken from the latents.

    Reference: Kingma, Welling, "Auto-Encoding Variational Bayes", ICLR 2014, section 3.

    Example:
        >>> StandardNormal().fit([[3.0, 4.0]]).log_prob([[0.0, 0.0]])
        tensor([-1.8379], dtype=torch.float64)
    """

    name = "standard-normal"
    finds_dependencies = False

    def _to_arrays(self) -> dict[str, Tensor]:
        return {"dim": torch.tensor([self._d], dtype=torch.float64)}

    def _fit(self, z: Tensor, seed: int) -> None:
        self.stats = {"parameters": 0}
        if len(z) == 1:
            return
        mean, spread = z.double().mean(dim=0), z.double().std(dim=0, correction=0).square().mean().sqrt()
        away, deviation = float(mean.square().mean().sqrt()), float(spread)
        if not (1 / _FACTOR <= deviation <= _FACTOR and away <= _AWAY):
            self.notices.append(
                f"the latents' standard deviation is {deviation:.2g} and their mean {away:.2g} from 0, that of N(0, I) "
                "1 and 0: samples lie where latents do not; try --density gaussian, which is fitted (latents that are "
                "the means of a variational encoder are narrower than its codes, and may be fine)"
            )

    def _draw(self, seed: int, start: int, n: int) -> np.ndarray:
        return normals(seed, start, n, self._d)

    def _log_prob(self, z: Tensor) -> Tensor:
        return -0.5 * (z.square().sum(dim=1) + self._d * LOG_2PI)

    def _adopt(self, arrays: Arrays) -> int:
        dim = float(arrays.take("dim", (1,)))
        if dim != int(dim) or not 1 <= dim <= 2**20:
            arrays.refuse(f"dim is {dim:g}")
        return int(dim)
