"""A mixture of normal densities, fitted by expectation maximization."""

import math
from typing import Any

import numpy as np
from torch import Tensor

from raectl.densities.base import Arrays, Density, check_integer, check_positive
from raectl.densities.covariance import COVARIANCES
from raectl.densities.em import fit_mixture
from raectl.densities.frame import Frame
from raectl.densities.normals import Normals
from raectl.errors import RaectlError, UsageError


class GMM(Density):
    """p(z) = sum_k w_k N(z; mu_k, Sigma_k), by EM from a k-means start; the mathematics is in `em`.

    References: Ghosh et al., "From Variational to Deterministic Autoencoders", ICLR 2020, section 4 (10 components,
    full covariances). Schwarz, "Estimating the Dimension of a Model", Annals of Statistics 6, 1978 (`bic`).

    Arguments:
        components: K.
        covariance: full, tied (one for all components), diag or spherical.
        max_iter: at most this many iterations.
        tol: converged when an iteration changes the mean log-likelihood per latent by less, in nats.
        reg_covar: added to the variances in units of each dimension's variance over all latents (spherical: of their
            mean), so that rescaling latents rescales the density and nothing else.

    Raises:
        UsageError: an option is out of range.

    Example:
        >>> gmm = GMM(components=2).fit([[0.0], [0.1], [5.0], [5.1]])
        >>> gmm.to_arrays()["weights"].round(3).tolist()
        [0.5, 0.5]
    """

    name = "gmm"

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
        if covariance not in COVARIANCES:
            raise UsageError(f"covariance must be one of {', '.join(COVARIANCES)}, not {covariance!r}")
        self.covariance = covariance
        self.max_iter = check_integer("max_iter", max_iter, 1)
        self.tol = check_positive("tol", tol)
        self.reg_covar = check_positive("reg_covar", reg_covar)
        self._kind = COVARIANCES[covariance]

    @property
    def options(self) -> dict[str, Any]:
        return {
            "components": self.components,
            "covariance": self.covariance,
            "max_iter": self.max_iter,
            "tol": self.tol,
            "reg_covar": self.reg_covar,
        }

    def to_arrays(self) -> dict[str, np.ndarray]:
        shape = self._kind.shape(self.components, self.dim)
        mixture = self._mixture
        return {
            "weights": mixture.weights.numpy().copy(),
            "means": mixture.means.numpy().copy(),
            "covariances": mixture.covariances.numpy().reshape(shape).copy(),
        }

    def _fit(self, z: Tensor, seed: int) -> None:
        (n, d), k = z.shape, self.components
        if n < k:
            raise RaectlError(f"--components {k} is more than the {n} latents", f"use --components {n} or fewer")
        frame = Frame.of(z)
        # A spherical covariance keeps its meaning only if all dimensions are scaled alike.
        units = frame.evened() if self.covariance == "spherical" else frame
        result = fit_mixture(
            z, units, self._kind, k, seed=seed, max_iter=self.max_iter, tol=self.tol, ridge=self.reg_covar
        )
        self._mixture = result.mixture
        parameters = k * d + k - 1 + self._kind.parameters(k, d)
        self.report = {
            "iterations": len(result.history) - 1,
            "converged": result.converged,
            "log_likelihood": result.history[-1],
            "parameters": parameters,
            "bic": parameters * math.log(n) - 2 * n * result.history[-1],
        }
        self.notices = frame.notices(n, k * d if self.covariance == "full" else k)
        if not result.converged:
            self.notices.append(f"EM did not converge in {self.max_iter} iterations: raise max_iter, or tol")

    def _width(self) -> int:
        return self.components * self.dim

    def _draw(self, seed: int, start: int, n: int) -> np.ndarray:
        return self._mixture.draw(seed, start, n)

    def _log_prob(self, z: Tensor) -> Tensor:
        return self._mixture.log_prob(z)

    def _adopt(self, arrays: Arrays) -> int:
        k = self.components
        weights, means = arrays.take("weights", (k,)), arrays.take("means", (k, None))
        covariances = arrays.take("covariances", self._kind.shape(k, means.shape[1]))
        arrays.finish()
        self._mixture = Normals.adopt(arrays, self._kind, weights, means, covariances)
        return int(means.shape[1])
