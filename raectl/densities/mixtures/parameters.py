"""Parameters of a Gaussian mixture, p(z) = sum_k w_k N(z; mu_k, Sigma_k), with its log-density and sampling."""

from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from torch import Tensor

from raectl.densities.base import LOG_2PI, Arrays
from raectl.densities.covariance import Covariance, Matrices, SingularError
from raectl.rng import to_normal, uniforms


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
        """Rows start, ..., start + n - 1 of the samples of `seed`: (n, d) float64.

        Of the 1 + d uniform numbers of a row, the first chooses the component and the others become normal noise.
        """
        u = uniforms(seed, start, n, 1 + self.means.shape[1])
        component = self.choose(u[:, 0])
        noise = to_normal(u[:, 1:])
        z: np.ndarray = self.means.numpy()[component] + self.kind.apply_factor(self.factors.numpy(), component, noise)
        return z

    def choose(self, u: np.ndarray) -> np.ndarray:
        """Components sampled by inverse transform from uniform numbers: (n,) => (n,)."""
        cumulative = np.cumsum(self.weights.numpy())
        # `right` skips components of weight 0; scaling u allows for a rounded sum below 1.
        chosen: np.ndarray = np.searchsorted(cumulative, u * cumulative[-1], side="right")
        return chosen.clip(max=len(cumulative) - 1)
