"""Base class of mixture densities: options, arrays, sampling and log-density."""

import math
from typing import Any

import numpy as np
from torch import Tensor

from raectl.config import Option
from raectl.densities.base import Arrays, Density
from raectl.densities.covariance import COVARIANCES, Covariance
from raectl.densities.latents.checks import check_components
from raectl.densities.latents.standardizer import Standardizer
from raectl.densities.mixtures.em import EMResult
from raectl.densities.mixtures.parameters import MixtureParameters

COVARIANCE = Option("full", "Of the components; tied is one for all of them.", choices=tuple(COVARIANCES))


STARTS = Option(1, "EM starts on a part of the latents, of which the likeliest goes on.", low=1, high=1000)

SHRINKAGE = Option(
    0.0, "nu, by which covariances are shrunk towards the pooled one: (n_k Sigma_k + nu P) / (n_k + nu).",
    low=0, high=1e9, shown="0; by held-out latents, if they choose components and are few",
)  # fmt: skip


class Mixture(Density):
    """p(z) = sum_k w_k N(z; mu_k, Sigma_k). A subclass defines `_fit`, which sets `parameters`."""

    parameters: MixtureParameters

    components = Option(10, "K.", low=1, high=1_000_000)
    max_iter = Option(200, "Iterations over all latents, at most.", low=1, high=1_000_000)
    tol = Option(
        1e-3, "Converged when an iteration changes the mean log-likelihood by less, in nats a latent.", above=0
    )
    reg_covar = Option(
        1e-6, "Ridge of each component's covariance, relative to each dimension's variance over all latents.", above=0
    )

    @property
    def _kind(self) -> Covariance:
        return COVARIANCES[self.settings.get("covariance", COVARIANCE.default)]

    def _to_arrays(self) -> dict[str, Tensor]:
        mixture = self.parameters
        covariances = mixture.covariances.reshape(self._kind.file_shape(*mixture.means.shape))
        return {"weights": mixture.weights, "means": mixture.means, "covariances": covariances}

    def _standardizer(self, z: Tensor) -> Standardizer:
        """That of latents, as many as components at least; one scale for all dimensions keeps covariances spherical."""
        check_components(self.components, len(z))
        standardizer = Standardizer.fit_near(z)
        return standardizer.isotropic() if self.settings.get("covariance") == "spherical" else standardizer

    def _directions(self, d: int) -> int:
        """Directions of variance that the latents have to fix: a shrunk covariance has those of the pooled one."""
        full, shrunk = self._kind is COVARIANCES["full"], self.settings.get("shrinkage", 0) > 0
        return self.components * d if full and not shrunk else max(self.components, d if shrunk else 1)

    def _remedy(self) -> str:
        """What to try where the latents are too few."""
        fewer = ["fewer --components"] if self.components > 1 else []
        simpler = ["--covariance diag"] if self.settings.get("covariance") == "full" else []
        return f"try {' or '.join([*fewer, *simpler, 'more data'])}"

    def _report(self, result: EMResult[Any], n: int, d: int, extra: int = 0) -> None:
        """Set `stats` from the result of EM on n rows of d dimensions, with a notice if EM did not converge.

        A component has `extra` parameters besides weight, mean and covariance.
        """
        k = self.components
        parameters = k * d + k - 1 + self._kind.parameters(k, d) + k * extra
        bic = parameters * math.log(n) - 2 * n * result.history[-1]
        self.stats = result.stats | {"parameters": parameters, "bic": bic}
        if not result.converged:
            self.notices.append(f"EM did not converge in {self.max_iter} iterations: raise max_iter, or tol")

    def _width(self) -> int:
        return self.components * self._d

    def _draw(self, seed: int, start: int, n: int) -> np.ndarray:
        return self.parameters.draw(seed, start, n)

    def _log_prob(self, z: Tensor) -> Tensor:
        return self.parameters.log_prob(z)

    def _adopt(self, arrays: Arrays) -> int:
        k = self.components
        weights, means = arrays.take("weights", (k,)), arrays.take("means", (k, None))
        covariances = arrays.take("covariances", self._kind.file_shape(k, means.shape[1]))
        self.parameters = MixtureParameters.adopt(arrays, self._kind, weights, means, covariances)
        return int(means.shape[1])
