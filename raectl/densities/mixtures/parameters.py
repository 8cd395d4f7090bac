"""Parameters of a Gaussian mixture, p(z) = sum_k w_k N(z; mu_k, Sigma_k), with its log-density and sampling."""

from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from torch import Tensor

from raectl.densities.base import LOG_2PI, Arrays
from raectl.densities.covariance import Covariance, Matrices, SingularError
from raectl.rng import normals, uniforms


@dataclass(frozen=True)
class MixtureParameters:
    """Weights (K,), means (K, d), covariances in the stored shape of `kind`, and their Cholesky factors; all float64.

    Raises:
        SingularError: a covariance is not positive definite.
    """

    kind: Covariance
    weights: Tensor
    means: Tensor
    covariances: Tensor
    factors: Tensor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "factors", self.kind.factor(self.covariances))

    @classmethod
    def adopt(cls, arrays: Arrays, kind: Covariance, weights: Tensor, means: Tensor, covariances: Tensor) -> Self:
        """From tensors in the shapes of files; `arrays` is the untrusted file that they come from.

        Raises:
            RaectlError: the weights are not a distribution, or a covariance is not symmetric and positive definite.
        """
        if not (weights >= 0).all() or abs(float(weights.sum()) - 1) > 1e-6:
            arrays.refuse("the weights are not positive numbers that sum to 1")
        if isinstance(kind, Matrices):
            asymmetry = (covariances - covariances.mT).abs().max()
            if asymmetry > 1e-9 * covariances.abs().max():
                arrays.refuse("a covariance is not symmetric")
        try:
            return cls(kind, weights, means, covariances.reshape(kind.stored_shape(*means.shape)))
        except SingularError:
            arrays.refuse("a covariance is not positive definite")

    def log_prob(self, z: Tensor) -> Tensor:
        """(n, d) float64 => (n,) float64, nats per row."""
        return torch.logsumexp(self.log_constants() - 0.5 * self.squared_distances(z), dim=1)

    def squared_distances(self, z: Tensor) -> Tensor:
        """|L_k^-1 (z_n - mu_k)|^2: (n, d) float64 => (n, K)."""
        centre = self.weights @ self.means  # subtracted, since z P - mu P would cancel far from the origin
        y = self.kind.whitener(self.means - centre, self.factors, torch.float64)(z - centre)  # (n, K, d)
        squares: Tensor = torch.linalg.vector_norm(y, dim=2).square()
        return squares

    def log_constants(self) -> Tensor:
        """log w_k - log det L_k - d/2 log 2 pi: (K,) float64, the terms of log w_k N(z; mu_k, Sigma_k) without z."""
        d = self.means.shape[1]
        return self.weights.log() - self.kind.log_det(self.factors, d) - 0.5 * d * LOG_2PI

    def draw(self, seed: int, start: int, n: int) -> np.ndarray:
        """Samples start, ..., start + n - 1 of `seed`: mu_k + L_k e, e ~ N(0, I). (n, d) float64.

        Their rounding may depend on start and n.
        """
        rows, component = self.choose(seed, start, n)
        return self.place(rows, component, normals(seed, start, n, self.means.shape[1]).astype(np.float64))

    def choose(self, seed: int, start: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Which of n samples are of which component: their rows, sorted by component, and the components, (n,) each.

        Components are chosen by inverse transform from uniform numbers.
        """
        u = uniforms(seed, start, n, 1, "components")[:, 0]
        rows = np.argsort(u)
        cumulative = np.cumsum(self.weights.numpy())
        # `right` skips components of weight 0; scaling u allows for a rounded sum below 1.
        component = np.searchsorted(cumulative, u[rows] * cumulative[-1], side="right")
        return rows, component.clip(max=len(cumulative) - 1)

    def place(self, rows: np.ndarray, component: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """mu_k + L_k e, e the i-th noise and k the i-th component, as row rows[i], for all i: (n, d) float64.

        Arguments:
            rows, component: from `choose`.
            noise: (n, d) float64.
        """
        placed = self.kind.apply_factor(self.factors.numpy(), component, noise)
        placed += self.means.numpy().take(component, axis=0)
        z = np.empty_like(placed)
        z[rows] = placed
        return z
