"""The standard normal density: the prior that variational autoencoders are trained towards."""

import numpy as np
from torch import Tensor

from raectl.densities.base import LOG_2PI, Arrays, Density
from raectl.rng import normals


class StandardNormal(Density):
    """p(z) = N(z; 0, I). Only d is taken from the latents.

    Reference: Kingma, Welling, "Auto-Encoding Variational Bayes", ICLR 2014, section 3.

    Example:
        >>> StandardNormal().fit([[3.0, 4.0]]).log_prob([[0.0, 0.0]])
        tensor([-1.8379], dtype=torch.float64)
    """

    name = "standard-normal"

    def to_arrays(self) -> dict[str, np.ndarray]:
        return {"dim": np.array([self.dim], dtype=np.float64)}

    def _fit(self, z: Tensor, seed: int) -> None:
        self.stats = {"parameters": 0}

    def _draw(self, seed: int, start: int, n: int) -> np.ndarray:
        return normals(seed, start, n, self.dim)

    def _log_prob(self, z: Tensor) -> Tensor:
        return -0.5 * (z.square().sum(dim=1) + self.dim * LOG_2PI)

    def _adopt(self, arrays: Arrays) -> int:
        (dim,) = arrays.take("dim", (1,))
        arrays.finish()
        if dim != int(dim) or not 1 <= dim <= 2**20:
            arrays.refuse(f"dim is {dim:g}")
        return int(dim)
