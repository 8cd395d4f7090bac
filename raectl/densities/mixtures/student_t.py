"""A mixture of multivariate Student's t distributions: clusters with heavy tails."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raectl.densities.base import Arrays
from raectl.densities.latents.standardizer import Standardizer
from raectl.densities.mixtures.base import SHRINKAGE, STARTS, Mixture
from raectl.densities.mixtures.em import TINY_COUNT, Sums, in_units, m_step, root_responsibilities, run_em_on_parts
from raectl.densities.mixtures.parameters import MixtureParameters
from raectl.densities.mixtures.start import fit_mixture
from raectl.rng import gammas, normals

_FREEDOM = (5.0, 1000.0)  # bounds of nu: from finite fourth moments to nearly Gaussian
_BISECTIONS = 50


@dataclass(frozen=True)
class _State:
    """Parameters of a t mixture: weights, centres and scale matrices, and degrees of freedom nu: (K,) float64."""

    mixture: MixtureParameters
    freedom: Tensor

    def log_joint(self, squares: Tensor) -> Tensor:
        """log w_k t(z; mu_k, Sigma_k, nu_k) from |L_k^-1 (z - mu_k)|^2: (n, K) => (n, K)."""
        mixture, d, nu = self.mixture, self.mixture.means.shape[1], self.freedom
        constants = torch.lgamma((nu + d) / 2) - torch.lgamma(nu / 2) - 0.5 * d * (nu * math.pi).log()
        constants = constants + mixture.weights.log() - mixture.kind.log_det(mixture.factors, d)
        dtype = squares.dtype
        return constants.to(dtype) - ((nu + d) / 2).to(dtype) * torch.log1p(squares / nu.to(dtype))


class StudentT(Mixture):
    """p(z) = sum_k w_k t(z; mu_k, Sigma_k, nu_k), full scale matrices, by EM that starts at a Gaussian mixture.

        t(z; mu, Sigma, nu) = Gamma((nu+d)/2) / (Gamma(nu/2) (nu pi)^(d/2) |Sigma|^(1/2)) (1 + q/nu)^(-(nu+d)/2)
        q = (z - mu)^T Sigma^-1 (z - mu)

    EM weights each latent by u = (nu + d) / (nu + q), which is small for outliers. nu is estimated within [5, 1000].

    References: Peel, McLachlan, "Robust Mixture Modelling Using the t Distribution", Statistics and Computing 10, 2000,
    equations 15 to 32. Kent, Tyler, Vardi, "A Curious Likelihood Identity for the Multivariate t-Distribution",
    Communications in Statistics 23, 1994 (the scale matrix is divided by the sum of u, which converges faster).

    `max_iter` counts from the end of the Gaussian mixture's iterations.

    Example:
        >>> density = StudentT(components=2).fit([[0.0], [0.1], [5.0], [5.1]])
        >>> density.to_arrays()["freedom"].shape
        (2,)
    """

    name = "student-t"
    chooses_components = True
    starts, shrinkage = STARTS, SHRINKAGE

    def _to_arrays(self) -> dict[str, Tensor]:
        return super()._to_arrays() | {"freedom": self._freedom}

    def _fit(self, z: Tensor, seed: int) -> None:
        (n, d), k = z.shape, self.components
        standardizer = self._standardizer(z)
        options: dict[str, Any] = {"seed": seed, "max_iter": self.max_iter, "tol": self.tol}
        more: dict[str, Any] = {"ridge": self.reg_covar, "starts": self.starts, "shrinkage": self.shrinkage}
        start = fit_mixture(z, standardizer, self._kind, k, **options, **more).state
        state = _State(start, torch.full((k,), 30.0, dtype=torch.float64))
        result = run_em_on_parts(z, lambda rows, now: self._iterate(rows, standardizer, now), state, k * d, **options)
        self.parameters, self._freedom = in_units(result.state.mixture, standardizer, z.dtype), result.state.freedom
        self.notices = standardizer.notices(n, self._directions(d), self._remedy())
        self._report(result, n, d, extra=1)

    def _iterate(self, z: Tensor, standardizer: Standardizer, state: _State) -> tuple[float, _State]:
        """Mean log-likelihood of rows z, and the state after one EM iteration; states are in standardized units."""
        mixture, nu = state.mixture, state.freedom
        k, d = mixture.means.shape
        whiten = self._kind.whitener(mixture.means, mixture.factors, z.dtype)
        members, counts, logs = torch.zeros(3, k, dtype=torch.float64)  # sums of r, of r u, of r (log u - u)
        first, scatter = torch.zeros(k, d, dtype=torch.float64), torch.zeros_like(mixture.covariances)
        log_likelihood = 0.0
        for x in standardizer.rows(z, k * d):
            y = whiten(x)  # (n, K, d)
            squares = torch.linalg.vector_norm(y, dim=2).square()
            joint = state.log_joint(squares)  # (n, K)
            total, root = root_responsibilities(joint)
            log_likelihood += float(total.sum(dtype=torch.float64))
            r = root.square()
            u = ((nu + d) / (nu + squares)).to(z.dtype)
            root *= u.sqrt()
            y *= root[:, :, None]
            members += r.sum(dim=0)
            counts += root.square().sum(dim=0)
            logs += (r * (u.log() - u)).sum(dim=0)
            first += torch.bmm(root.T[:, None, :], y.transpose(0, 1))[:, 0]
            scatter += self._kind.scatter(y)
        moved = m_step(mixture, Sums(log_likelihood, counts, first, scatter), self.reg_covar, members, self.shrinkage)
        mean = log_likelihood / len(z) - float(standardizer.scale.log().sum())
        return mean, _State(moved, _degrees_of_freedom(nu, logs / (members + TINY_COUNT), d))

    def _log_prob(self, z: Tensor) -> Tensor:
        state = _State(self.parameters, self._freedom)
        return torch.logsumexp(state.log_joint(self.parameters.squared_distances(z)), dim=1)

    def _draw(self, seed: int, start: int, n: int) -> np.ndarray:
        """mu + L e / sqrt(g), e ~ N(0, I), g ~ chi^2_nu / nu: (n, d) float64."""
        rows, component = self.parameters.choose(seed, start, n)
        half = self._freedom.numpy()[component] / 2
        noise = normals(seed, start, n, self._d) / np.sqrt(gammas(half, seed, start) / half)[:, None]
        return self.parameters.place(rows, component, noise)

    def _adopt(self, arrays: Arrays) -> int:
        self._freedom = arrays.take("freedom", (self.components,))
        if not (self._freedom >= 1).all():
            arrays.refuse("degrees of freedom are below 1")
        return super()._adopt(arrays)


def _degrees_of_freedom(nu: Tensor, logs: Tensor, d: int) -> Tensor:
    """The root nu' of log(nu'/2) - psi(nu'/2) + 1 + mean_r(log u - u) + psi((nu+d)/2) - log((nu+d)/2): (K,).

    The expression decreases in nu', so bisection on log nu' finds the root, or the bound nearest to it.
    """
    constant = 1 + logs + torch.digamma((nu + d) / 2) - ((nu + d) / 2).log()
    low, high = (torch.full_like(nu, math.log(bound)) for bound in _FREEDOM)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        half = middle.exp() / 2
        above = half.log() - torch.digamma(half) + constant > 0
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return ((low + high) / 2).exp()
