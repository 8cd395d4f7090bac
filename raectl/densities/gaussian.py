"""A Gaussian with full covariance."""

import numpy as np
import torch
from torch import Tensor

from raectl.config import Option
from raectl.densities.base import Arrays, Density
from raectl.densities.covariance import COVARIANCES
from raectl.densities.latents.checks import chunks
from raectl.densities.latents.standardizer import Standardizer
from raectl.densities.mixtures.parameters import MixtureParameters

_FULL = COVARIANCES["full"]


class Gaussian(Density):
    """p(z) = N(z; mu, Sigma), by maximum likelihood.

        mu = 1/N sum_n z_n        Sigma = 1/N sum_n (z_n - mu)(z_n - mu)^T + reg_covar diag(s^2)

    s_i^2 is the variance of dimension i. The ridge is relative to it, so the fit is equivariant under scaling of the
    dimensions.

    Reference: Ghosh et al., "From Variational to Deterministic Autoencoders", ICLR 2020, section 4.

    Example:
        >>> gaussian = Gaussian().fit([[0.0, 1.0], [2.0, 0.0], [1.0, 5.0]])
        >>> gaussian.to_arrays()["mean"].tolist()
        [1.0, 2.0]
    """

    name = "gaussian"

    reg_covar = Option(1e-6, "The ridge, relative to the variances.", above=0)

    def _to_arrays(self) -> dict[str, Tensor]:
        return {"mean": self._normal.means[0], "covariance": self._normal.covariances[0]}

    def _fit(self, z: Tensor, seed: int) -> None:
        n, d = z.shape
        standardizer = Standardizer.fit(z)
        covariance = (self.reg_covar * standardizer.scale.square()).diag()
        for part in chunks(z, d):
            x = part.double() - standardizer.centre
            covariance += x.T @ x / n
        covariance = (covariance + covariance.T) / 2
        weights = torch.ones(1, dtype=torch.float64)
        self._normal = MixtureParameters(_FULL, weights, standardizer.centre[None], covariance[None])
        log_likelihood = sum(float(self._log_prob(part.double()).sum()) for part in chunks(z, d))
        parameters = d + _FULL.parameters(1, d)
        self.stats = {
            "log_likelihood": log_likelihood / n,
            "parameters": parameters,
            "bic": float(parameters * np.log(n) - 2 * log_likelihood),
        }
        self.notices = standardizer.notices(n, d, "try --density gmm --components 1 --covariance diag, or more data")

    def _draw(self, seed: int, start: int, n: int) -> np.ndarray:
        return self._normal.draw(seed, start, n)

    def _log_prob(self, z: Tensor) -> Tensor:
        return self._normal.log_prob(z)

    def _adopt(self, arrays: Arrays) -> int:
        mean = arrays.take("mean", (None,))
        covariance = arrays.take("covariance", (len(mean), len(mean)))
        weights = torch.ones(1, dtype=torch.float64)
        self._normal = MixtureParameters.adopt(arrays, _FULL, weights, mean[None], covariance[None])
        return len(mean)
