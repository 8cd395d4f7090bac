"""A sparse Gaussian process (GP) of scores over latents, and batches of points of high expected improvement.

    y = f(z) + noise,   f ~ GP(0, s^2 exp(-1/2 sum_j (z_j - z'_j)^2 / l_j^2)),   noise ~ N(0, sigma^2)

f is approximated by its values at M inducing points, whose optimal variational posterior is known in closed form.
l, s, sigma and the inducing points are optimized by L-BFGS on the bound

    log N(y | 0, Q + sigma^2 I) - tr(K - Q) / (2 sigma^2),   Q = K_xm K_mm^-1 K_mx

The points of a batch are chosen one after the other, by the logarithm of the expected improvement on the largest mean
at a training point. A chosen point is assumed to score its mean ("kriging believer"), which reduces the variance
around it.

gpytorch's `InducingPointKernel` has the same bound, but is many times slower; the tests compare with it.

References: Titsias, "Variational Learning of Inducing Variables in Sparse Gaussian Processes", AISTATS 2009, equation
9; Ament, Daulton, Eriksson, Balandat, Bakshy, "Unexpected Improvements to Expected Improvement for Bayesian
Optimization", NeurIPS 2023; Ginsbourger, Le Riche, Carraro, "Kriging Is Well-Suited to Parallelize Optimization", 2010.
"""

import math
import warnings

import numpy as np
import torch
from botorch.acquisition.analytic import LogExpectedImprovement
from botorch.exceptions.warnings import BotorchWarning
from botorch.generation.gen import gen_candidates_scipy
from botorch.models.model import Model
from botorch.posteriors.gpytorch import GPyTorchPosterior
from gpytorch.distributions import MultivariateNormal
from torch import Tensor

from raectl import rng

_JITTER = 1e-6  # share of s^2 added to K_mm's diagonal
_ITERATIONS = 50  # of L-BFGS on the bound
_CANDIDATES = 2000  # random points, of which the best is refined by gradient ascent
_BEST, _REACH = 20, 0.1  # half of the points are near one of so many best points: at most so far, in sides of the cube
_REFINEMENTS = 150  # iterations
_MIN_VARIANCE = 1e-10  # gpytorch warns below
_INITIAL_LOG_SIGMA = -1.0


class SparseGP(Model):
    """The GP, fitted to points z (N, d) in the unit cube or near it, and y (N,), standardized; more is better; float64.

    M = `inducing` is at most N; the seed chooses the initial inducing points among z.
    """

    num_outputs, batch_shape = 1, torch.Size()  # a single GP

    def __init__(self, z: Tensor, y: Tensor, inducing: int, seed: int = 0) -> None:
        super().__init__()
        self.z, self.y = z, y
        rows = rng.permutation(seed, "inducing points", len(z))[:inducing]
        d = z.shape[1]
        log_length = (z.std(dim=0).mean() * math.sqrt(d)).log()  # typical distances scale with sqrt(d)
        self.log_length = torch.full((d,), float(log_length), dtype=z.dtype).requires_grad_()
        self.log_scale = torch.zeros((), dtype=z.dtype).requires_grad_()
        self.log_sigma = torch.full((), _INITIAL_LOG_SIGMA, dtype=z.dtype).requires_grad_()
        self.inducing = z[rows].clone().requires_grad_()
        self._fit()
        with torch.no_grad():
            self._l, a, self._lb = self._factors()
            self._c = self._solve(self._lb, a)
        self.pending = z.new_empty(0, d)

    def kernel(self, a: Tensor, b: Tensor) -> Tensor:
        """(..., N, d), (M, d) => (..., N, M)."""
        a, b = a / self.log_length.exp(), b / self.log_length.exp()
        squares = (a * a).sum(-1, keepdim=True) + (b * b).sum(-1) - 2 * a @ b.T
        return (2 * self.log_scale - squares.clamp_min(0) / 2).exp()

    def _factors(self) -> tuple[Tensor, Tensor, Tensor]:
        """L, A and L_B, with K_mm = L L^T, A = L^-1 K_mx / sigma and I + A A^T = L_B L_B^T."""
        eye = torch.eye(len(self.inducing), dtype=self.z.dtype)
        jitter = _JITTER * (2 * self.log_scale).exp() * eye
        l = torch.linalg.cholesky(self.kernel(self.inducing, self.inducing) + jitter)  # noqa: E741
        k = self.kernel(self.z, self.inducing).T
        a = torch.linalg.solve_triangular(l, k, upper=False) / self.log_sigma.exp()
        return l, a, torch.linalg.cholesky(eye + a @ a.T)

    def _solve(self, lb: Tensor, a: Tensor) -> Tensor:
        """L_B^-1 A y / sigma: (M, 1)."""
        solution: Tensor = torch.linalg.solve_triangular(lb, (a @ self.y)[:, None] / self.log_sigma.exp(), upper=False)
        return solution

    def bound(self) -> Tensor:
        """The bound on log p(y): (), in nats."""
        _, a, lb = self._factors()
        n, sigma, c = len(self.y), self.log_sigma.exp(), self._solve(lb, a)
        likelihood = -n / 2 * math.log(2 * math.pi) - n * self.log_sigma - lb.diagonal().log().sum()
        likelihood = likelihood - (self.y @ self.y) / (2 * sigma**2) + (c * c).sum() / 2
        bound: Tensor = likelihood - (n * (2 * self.log_scale).exp() / sigma**2 - (a * a).sum()) / 2
        return bound

    def _fit(self) -> None:
        learned = [self.log_length, self.log_scale, self.log_sigma, self.inducing]
        optimizer = torch.optim.LBFGS(learned, max_iter=_ITERATIONS, line_search_fn="strong_wolfe")
        least, best = math.inf, [value.detach().clone() for value in learned]

        def loss() -> Tensor:
            nonlocal least, best
            optimizer.zero_grad()
            try:
                value = -self.bound() / len(self.y)
            except torch.linalg.LinAlgError:  # type: ignore[attr-defined] # the step was too long
                return torch.full((), math.inf, dtype=self.z.dtype)
            if value.item() < least:
                least, best = value.item(), [v.detach().clone() for v in learned]
            value.backward()  # type: ignore[no-untyped-call]
            return value

        optimizer.step(loss)  # type: ignore[no-untyped-call]
        for value, optimum in zip(learned, best, strict=True):
            value.requires_grad_(False).copy_(optimum)

    def mean(self, z: Tensor) -> Tensor:
        """The posterior mean of f: (..., N, d) => (..., N)."""
        mean: Tensor = (self._projected(z)[1] @ self._c)[..., 0]
        return mean

    def _projected(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """v and w, (..., N, M) each, for which the posterior covariance is k(z, z') - v v'^T + w w'^T."""
        k = self.kernel(z, self.inducing)
        v = torch.linalg.solve_triangular(self._l.T, k, upper=True, left=False)
        return v, torch.linalg.solve_triangular(self._lb.T, v, upper=True, left=False)

    def posterior(self, X: Tensor, *_: object, **__: object) -> GPyTorchPosterior:
        """The posterior of f at single points X: (B, 1, d), given that each pending point scores its mean."""
        x = X.squeeze(-2)
        v, w = self._projected(x)
        variance = (2 * self.log_scale).exp() - (v * v).sum(-1) + (w * w).sum(-1)
        if len(self.pending):
            p, q = self._projected(self.pending)
            eye = torch.eye(len(p), dtype=p.dtype)
            among = self.kernel(self.pending, self.pending) - p @ p.T + q @ q.T + (2 * self.log_sigma).exp() * eye
            across = self.kernel(x, self.pending) - v @ p.T + w @ q.T
            root = torch.linalg.solve_triangular(torch.linalg.cholesky(among).T, across, upper=True, left=False)
            variance = variance - (root * root).sum(-1)
        mean = w @ self._c
        return GPyTorchPosterior(MultivariateNormal(mean, variance.clamp_min(_MIN_VARIANCE)[..., None, None]))


def propose(model: SparseGP, batch: int, seed: int, start: int) -> Tensor:
    """A batch of points of the unit cube: (batch, d), a function of the model, the seed and the number before them.

    Every other point is searched for near one of the best training points, the others in the whole cube, which in many
    dimensions is mostly far from any data.
    """
    best = model.mean(model.z).max()
    top = model.z[model.y.topk(min(_BEST, len(model.y))).indices]
    for index in range(start, start + batch):
        low, high = torch.zeros_like(top[0]), torch.ones_like(top[0])
        if index % 2:
            center = top[index // 2 % len(top)]
            low, high = (center - _REACH).clamp(0, 1), (center + _REACH).clamp(0, 1)
        u = rng.uniforms(seed, index * _CANDIDATES, _CANDIDATES, len(low))
        candidates = (low + (high - low) * torch.from_numpy(np.ascontiguousarray(u)))[:, None]
        improvement = LogExpectedImprovement(model, best)
        with torch.no_grad():
            first = candidates[improvement(candidates).argmax()][None]
        with warnings.catch_warnings(record=True):  # ignore warnings that the maximization ended early
            warnings.simplefilter("always", BotorchWarning)  # as botorch sets it itself
            found, _ = gen_candidates_scipy(first, improvement, low, high, options={"maxiter": _REFINEMENTS})
        model.pending = torch.cat([model.pending, found[0].detach()])
    return model.pending
