"""Base class of mixture densities: options, arrays, sampling and log-density."""

import math
from typing import Any

import numpy as np
from torch import Tensor

from raectl.densities.base import Arrays, Density, check_integer, check_positive
from raectl.densities.covariance import COVARIANCES
from raectl.densities.mixtures.em import EMResult
from raectl.densities.mixtures.parameters import MixtureParameters
from raectl.errors import RaectlError, UsageError


class Mixture(Density):
    """p(z) = sum_k w_k N(z; mu_k, Sigma_k). A subclass defines `_fit`, which sets `_mixture`."""

    _mixture: MixtureParameters

    def __init__(
        self,
        *,
        components: int = 10,
        covariance: str = "full",
        max_iter: int = 200,
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
    ) -> None:
        super().__init__()
        self.components = check_integer("components", components, 1)
        if not isinstance(covariance, str) or covariance not in COVARIANCES:
            raise UsageError(f"covariance must be one of {', '.join(COVARIANCES)}, not {covariance!r}")
        self.covariance = covariance
        self.max_iter = check_integer("max_iter", max_iter, 1)
        self.tol = check_positive("tol", tol)
        self.reg_covar = check_positive("reg_covar", reg_covar)
        self._kind = COVARIANCES[covariance]

    def _to_arrays(self) -> dict[str, np.ndarray]:
        shape = self._kind.file_shape(self.components, self._d)
        return {
            "weights": self._mixture.weights.numpy().copy(),
            "means": self._mixture.means.numpy().copy(),
            "covariances": self._mixture.covariances.numpy().reshape(shape).copy(),
        }

    def _check_enough(self, n: int) -> None:
        if n < self.components:
            hint = f"use --components {n} or fewer"
            raise RaectlError(f"--components {self.components} is more than the {n} latents", hint)

    def _remedy(self) -> str:
        """What to try where the latents are too few."""
        fewer = ["fewer --components"] if self.components > 1 else []
        simpler = ["--covariance diag"] if self.options.get("covariance") == "full" else []
        return f"try {' or '.join([*fewer, *simpler, 'more data'])}"

    def _report(self, result: EMResult[Any], n: int, d: int, extra: int = 0) -> None:
        """Set `stats` from the result of EM on n rows of d dimensions, with a notice if EM did not converge.

        Arguments:
            extra: parameters of a component besides weight, mean and covariance, for the parameter count.
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
        return self._mixture.draw(seed, start, n)

    def _log_prob(self, z: Tensor) -> Tensor:
        return self._mixture.log_prob(z)

    def _adopt(self, arrays: Arrays) -> int:
        k = self.components
        weights, means = arrays.take("weights", (k,)), arrays.take("means", (k, None))
        covariances = arrays.take("covariances", self._kind.file_shape(k, means.shape[1]))
        arrays.finish()
        self._mixture = MixtureParameters.adopt(arrays, self._kind, weights, means, covariances)
        return int(means.shape[1])
