"""Four types of covariance matrix for mixtures of K components in R^d, with the operations that mixtures need.

    Sigma_k = L_k L_k^T        y_nk = L_k^-1 (x_n - mu_k)        N(x_n; mu_k, Sigma_k) = N(y_nk; 0, I) / det L_k

Sums are taken over the whitened residuals y, which are of order one, so that float32 is accurate enough; in sums of
x x^T it would not be.

| name | Sigma_k | stored shape | shape in files |
|---|---|---|---|
| full | any | (K, d, d) | (K, d, d) |
| tied | one for all | (1, d, d) | (d, d) |
| diag | diagonal | (K, d) | (K, d) |
| spherical | a multiple of I | (K, 1) | (K,) |
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


class SingularError(ValueError):
    """A covariance is not positive definite."""


@dataclass(frozen=True)
class Matrices:
    """Full covariances, or one tied covariance where they are shared."""

    shared: bool

    def file_shape(self, k: int, d: int) -> tuple[int, ...]:
        """Shape in which K covariances in d dimensions are stored in a density's file."""
        return (d, d) if self.shared else (k, d, d)

    def stored_shape(self, k: int, d: int) -> tuple[int, ...]:
        """Shape of the tensor of K covariances."""
        return (1 if self.shared else k, d, d)

    def parameters(self, k: int, d: int) -> int:
        """Number of free parameters."""
        return (1 if self.shared else k) * d * (d + 1) // 2

    def diagonal(self, variances: Tensor, k: int) -> Tensor:
        """(d,) variances => K equal covariances."""
        return torch.diag(variances).expand(self.stored_shape(k, len(variances))).contiguous()

    def rescale(self, covariances: Tensor, scale: Tensor) -> Tensor:
        """Covariances of x => covariances of x * scale; scale: (d,), with equal entries if spherical."""
        return covariances * scale[:, None] * scale

    def factor(self, covariances: Tensor) -> Tensor:
        """Cholesky factors L, of the same shape; raises `SingularError` if one is not positive definite."""
        factors: Tensor
        factors, failed = torch.linalg.cholesky_ex(covariances)
        if bool(failed.any()):
            raise SingularError
        return factors

    def floor(self, covariances: Tensor, low: float) -> Tensor:
        """The covariances with eigenvalues raised to at least `low`."""
        values, vectors = torch.linalg.eigh(covariances)
        raised: Tensor = (vectors * values.clamp_min(low)[:, None, :]) @ vectors.mT
        return raised

    def log_det(self, factors: Tensor, d: int) -> Tensor:
        """log det L_k, (K,) or (1,), in R^d."""
        return factors.diagonal(dim1=1, dim2=2).log().sum(dim=1)

    def whitener(self, means: Tensor, factors: Tensor, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        """The map x: (n, d) => y: (n, K, d), computed in `dtype`."""
        k, d = means.shape
        identity = torch.eye(d, dtype=factors.dtype).expand_as(factors)
        precision = torch.linalg.solve_triangular(factors, identity, upper=False).mT  # P_k = L_k^-T, y = (x - mu) P
        offset = (means[:, None, :] @ precision)[:, 0, :].to(dtype)  # (K, d)
        # One matrix product for all components: (n, d) (d, K d).
        side_by_side = precision.permute(1, 0, 2).reshape(d, -1).to(dtype)
        if self.shared:
            return lambda x: (x @ side_by_side)[:, None, :] - offset
        return lambda x: torch.addmm(offset.flatten(), x, side_by_side, beta=-1).view(len(x), k, d)

    def scatter(self, y: Tensor) -> Tensor:
        """sum_n y_nk y_nk^T in the stored shape, from y: (n, K, d)."""
        if self.shared:
            return (y.flatten(0, 1).T @ y.flatten(0, 1))[None]
        return torch.bmm(y.permute(1, 2, 0), y.transpose(0, 1))

    def shift(self, factors: Tensor, y: Tensor) -> Tensor:
        """L_k y_k for y: (K, d)."""
        return (factors @ y[:, :, None])[:, :, 0]

    def outer(self, x: Tensor) -> Tensor:
        """x x^T for each row, as covariances are stored: (n, d) => (n, d, d)."""
        return x[:, :, None] * x[:, None, :]

    def refit(self, factors: Tensor, counts: Tensor, first: Tensor, scatter: Tensor) -> Tensor:
        """Covariances of the M-step, from sum_n r (K,), sum_n r y (K, d), and `scatter` of sqrt(r) y."""
        about_means = scatter - self._sum(first[:, :, None] * (first / counts[:, None])[:, None, :])
        share = about_means / self._sum(counts[:, None, None])
        covariances = factors @ share @ factors.mT
        return (covariances + covariances.mT) / 2

    def _sum(self, per_component: Tensor) -> Tensor:
        return per_component.sum(dim=0, keepdim=True) if self.shared else per_component

    def apply_factor(self, factors: np.ndarray, component: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """L_k e for each row's component k: (n,), sorted, and noise e: (n, d); rounding depends on all rows."""
        z = np.empty_like(noise)
        edges = np.array([0, len(noise)]) if self.shared else np.searchsorted(component, np.arange(len(factors) + 1))
        for k in np.flatnonzero(np.diff(edges)):
            group = slice(edges[k], edges[k + 1])
            np.matmul(noise[group], factors[k].T, out=z[group])
        return z


@dataclass(frozen=True)
class _Diagonals:
    """Diagonal covariances, or multiples of the identity where they are shared; methods as of `Matrices`."""

    shared: bool

    def file_shape(self, k: int, d: int) -> tuple[int, ...]:
        return (k,) if self.shared else (k, d)

    def stored_shape(self, k: int, d: int) -> tuple[int, ...]:
        return (k, 1 if self.shared else d)

    def parameters(self, k: int, d: int) -> int:
        return k * (1 if self.shared else d)

    def diagonal(self, variances: Tensor, k: int) -> Tensor:
        return self._mean(variances[None]).repeat(k, 1)

    def rescale(self, covariances: Tensor, scale: Tensor) -> Tensor:
        return covariances * (scale[:1] if self.shared else scale).square()

    def factor(self, covariances: Tensor) -> Tensor:
        if not bool((covariances > 0).all()):
            raise SingularError
        return covariances.sqrt()

    def floor(self, covariances: Tensor, low: float) -> Tensor:
        return covariances.clamp_min(low)

    def log_det(self, factors: Tensor, d: int) -> Tensor:
        return factors.log().expand(-1, d).sum(dim=1)

    def whitener(self, means: Tensor, factors: Tensor, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        centres, precision = means.to(dtype), factors.reciprocal().to(dtype)
        return lambda x: (x[:, None, :] - centres) * precision

    def scatter(self, y: Tensor) -> Tensor:
        return self._mean(y.square().sum(dim=0))

    def shift(self, factors: Tensor, y: Tensor) -> Tensor:
        return factors * y

    def outer(self, x: Tensor) -> Tensor:
        return self._mean(x.square())

    def refit(self, factors: Tensor, counts: Tensor, first: Tensor, scatter: Tensor) -> Tensor:
        variances = scatter / counts[:, None] - self._mean((first / counts[:, None]).square())
        return factors.square() * variances

    def _mean(self, per_dimension: Tensor) -> Tensor:
        return per_dimension.mean(dim=1, keepdim=True) if self.shared else per_dimension

    def apply_factor(self, factors: np.ndarray, component: np.ndarray, noise: np.ndarray) -> np.ndarray:
        z: np.ndarray = factors[component] * noise
        return z


Covariance = Matrices | _Diagonals
COVARIANCES: dict[str, Covariance] = {
    "full": Matrices(False),
    "tied": Matrices(True),
    "diag": _Diagonals(False),
    "spherical": _Diagonals(True),
}
