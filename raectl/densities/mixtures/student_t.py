"""A mixture of Student's t densities: clusters with heavy tails."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raectl.densities.base import Arrays
from raectl.densities.covariance import SingularError
from raectl.densities.mixtures.base import Mixture
from raectl.densities.mixtures.em import fit_mixture, in_units, root_responsibilities, run_em_on_parts
from raectl.densities.mixtures.parameters import MixtureParameters
from raectl.densities.standardizer import Standardizer
from raectl.rng import to_normal, uniforms

_FREEDOM = (5.0, 1000.0)  # bounds of nu: finite fourth moments below, nearly normal above
_HALVINGS = 50  # of the interval that holds the logarithm of nu


@dataclass(frozen=True)
class _Ts:
    """Weights, centres and scale matrices as of normals, and degrees of freedom nu: (K,) float64."""

    normals: MixtureParameters
    freedom: Tensor

    def log_joint(self, squares: Tensor) -> Tensor:
        """log w_k t(z; mu_k, Sigma_k, nu_k) from |L_k^-1 (z - mu_k)|^2: (n, K) => (n, K)."""
        d, nu = self.normals.means.shape[1], self.freedom
        constants = torch.lgamma((nu + d) / 2) - torch.lgamma(nu / 2) - 0.5 * d * (nu * math.pi).log()
        constants = constants + self.normals.weights.log() - self.normals.kind.log_det(self.normals.factors, d)
        dtype = squares.dtype
        return constants.to(dtype) - ((nu + d) / 2).to(dtype) * torch.log1p(squares / nu.to(dtype))


class StudentT(Mixture):
    """p(z) = sum_k w_k t(z; mu_k, Sigma_k, nu_k), full scale matrices, by EM from the mixture of normals of `gmm`.

        t(z; mu, Sigma, nu) = Gamma((nu+d)/2) / (Gamma(nu/2) (nu pi)^(d/2) |Sigma|^(1/2)) (1 + q/nu)^(-(nu+d)/2)
        q = (z - mu)^T Sigma^-1 (z - mu)

    In EM every latent counts u = (nu + d) / (nu + q) times, so that what lies far off pulls less. nu is kept between 5
    and 1000.

    References: Peel, McLachlan, "Robust Mixture Modelling Using the t Distribution", Statistics and Computing 10, 2000,
    equations 15 to 32. Kent, Tyler, Vardi, "A Curious Likelihood Identity for the Multivariate t-Distribution",
    Communications in Statistics 23, 1994 (the sum of u in the scale matrix's denominator, which converges faster).

    Arguments:
        components: K.
        max_iter: at most this many iterations, those of the normals aside.
        tol: converged when an iteration changes the mean log-likelihood per latent by less, in nats.
        reg_covar: added to the scales in units of each dimension's variance over all latents.

    Example:
        >>> density = StudentT(components=2).fit([[0.0], [0.1], [5.0], [5.1]])
        >>> density.to_arrays()["freedom"].shape
        (2,)
    """

    name = "student-t"
    chooses_components = True

    def __init__(
        self, *, components: int = 10, max_iter: int = 200, tol: float = 1e-3, reg_covar: float = 1e-6
    ) -> None:
        super().__init__(components, "full", max_iter, tol, reg_covar)

    def to_arrays(self) -> dict[str, np.ndarray]:
        return super().to_arrays() | {"freedom": self._freedom.numpy().copy()}

    def _fit(self, z: Tensor, seed: int) -> None:
        (n, d), k = z.shape, self.components
        self._check_enough(n)
        standardizer = Standardizer.fit(z)
        options: dict[str, Any] = {"seed": seed, "max_iter": self.max_iter, "tol": self.tol}
        start = fit_mixture(z, standardizer, self._kind, k, **options, ridge=self.reg_covar).state
        ts = _Ts(start, torch.full((k,), 30.0, dtype=torch.float64))
        result = run_em_on_parts(z, lambda rows, now: self._iterate(rows, standardizer, now), ts, k * d, **options)
        self._mixture, self._freedom = in_units(result.state.normals, standardizer, z.dtype), result.state.freedom
        parameters = k * d + k - 1 + self._kind.parameters(k, d) + k
        self.stats = result.stats | {
            "parameters": parameters,
            "bic": parameters * math.log(n) - 2 * n * result.history[-1],
        }
        self.notices = standardizer.notices(n, k * d)
        if not result.converged:
            self.notices.append(f"EM did not converge in {self.max_iter} iterations: raise max_iter, or tol")

    def _iterate(self, z: Tensor, standardizer: Standardizer, ts: _Ts) -> tuple[float, _Ts]:
        """Mean log-likelihood of rows under `ts`, and the result of one EM iteration; both standardized."""
        normals, nu = ts.normals, ts.freedom
        k, d = normals.means.shape
        whiten = self._kind.whitener(normals.means, normals.factors, z.dtype)
        members, counts, logs = torch.zeros(3, k, dtype=torch.float64)
        first, scatter = torch.zeros(k, d, dtype=torch.float64), torch.zeros_like(normals.covariances)
        log_likelihood = 0.0
        for x in standardizer.rows(z, k * d):
            y = whiten(x)  # (n, K, d)
            squares = torch.linalg.vector_norm(y, dim=2).square()
            joint = ts.log_joint(squares)  # (n, K)
            total = torch.logsumexp(joint, dim=1, keepdim=True)
            log_likelihood += float(total.sum(dtype=torch.float64))
            root = root_responsibilities(joint, total)
            r = root.square()
            u = ((nu + d) / (nu + squares)).to(z.dtype)
            root *= u.sqrt()
            y *= root[:, :, None]
            members += r.sum(dim=0)
            counts += root.square().sum(dim=0)
            logs += (r * (u.log() - u)).sum(dim=0)
            first += torch.bmm(root.T[:, None, :], y.transpose(0, 1))[:, 0]
            scatter += self._kind.scatter(y)
        empty = 10 * torch.finfo(torch.float64).eps  # a component without latents keeps its centre
        members, counts = members + empty, counts + empty
        covariances = self._kind.refit(normals.factors, counts, first, scatter)
        covariances = covariances + self._kind.diagonal(torch.full((d,), self.reg_covar, dtype=torch.float64), k)
        means = normals.means + self._kind.shift(normals.factors, first / counts[:, None])
        try:
            moved = MixtureParameters(self._kind, members / members.sum(), means, covariances)
        except SingularError:  # a component that collapsed within one step, by float32's rounding
            floored = self._kind.floor(covariances, self.reg_covar)
            moved = MixtureParameters(self._kind, members / members.sum(), means, floored)
        mean = log_likelihood / len(z) - float(standardizer.scale.log().sum())
        return mean, _Ts(moved, _freedom(nu, logs / members, d))

    def _log_prob(self, z: Tensor) -> Tensor:
        normals = self._mixture
        centre = normals.weights @ normals.means  # as for normals: the product would cancel far from the origin
        y = self._kind.whitener(normals.means - centre, normals.factors, torch.float64)(z - centre)
        squares = torch.linalg.vector_norm(y, dim=2).square()
        return torch.logsumexp(_Ts(normals, self._freedom).log_joint(squares), dim=1)

    def _draw(self, seed: int, start: int, n: int) -> np.ndarray:
        """mu + L e / sqrt(g), e ~ N(0, I), g ~ chi^2_nu / nu: one uniform number chooses k, one makes g, d make e."""
        from scipy.special import gammaincinv

        u = uniforms(seed, start, n, 2 + self.dim)
        component = self._mixture.choose(u[:, 0])
        half = self._freedom.numpy()[component] / 2
        noise = to_normal(u[:, 2:]) / np.sqrt(gammaincinv(half, u[:, 1]) / half)[:, None]
        colour = self._kind.apply_factor(self._mixture.factors.numpy(), component, noise)
        z: np.ndarray = self._mixture.means.numpy()[component] + colour
        return z

    def _adopt(self, arrays: Arrays) -> int:
        freedom = arrays.take("freedom", (self.components,))
        if not (freedom >= 1).all():
            arrays.refuse("degrees of freedom are below 1")
        self._freedom = torch.from_numpy(np.array(freedom))
        return super()._adopt(arrays)


def _freedom(nu: Tensor, logs: Tensor, d: int) -> Tensor:
    """The root nu' of log(nu'/2) - psi(nu'/2) + 1 + mean_r(log u - u) + psi((nu+d)/2) - log((nu+d)/2): (K,).

    The left side falls with nu', so halving an interval finds it, or the bound that it lies beyond.
    """
    constant = 1 + logs + torch.digamma((nu + d) / 2) - ((nu + d) / 2).log()
    low, high = (torch.full_like(nu, math.log(bound)) for bound in _FREEDOM)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        half = middle.exp() / 2
        above = half.log() - torch.digamma(half) + constant > 0
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return ((low + high) / 2).exp()
