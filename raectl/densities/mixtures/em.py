"""Expectation maximization (EM) for Gaussian mixtures, in one pass over the data per iteration.

    E:  r_nk = w_k N(x_n; mu_k, Sigma_k) / sum_j w_j N(x_n; mu_j, Sigma_j)
    M:  n_k = sum_n r_nk     mu_k = sum_n r_nk x_n / n_k     Sigma_k = sum_n r_nk (x_n - mu_k)(x_n - mu_k)^T / n_k

References: Bishop, "Pattern Recognition and Machine Learning", 2006, equations 9.23 to 9.26. Bradley, Fayyad, Reina,
"Scaling EM Clustering to Large Databases", Microsoft Research MSR-TR-98-35, 1998 (subsets of the data first).

The M-step sums over the whitened residuals y = L^-1 (x - mu) of the E-step, chunk by chunk, so neither the N x K
responsibilities nor a copy of the data are in memory:

    m_k = sum_n r_nk y_nk / n_k     mu_k += L_k m_k     Sigma_k = L_k (sum_n r_nk y_nk y_nk^T / n_k - m_k m_k^T) L_k^T

Products are taken in the data's type (float32 for latents), sums over chunks and tensors of size K in float64.
Dimensions are standardized first: mean 0 and standard deviation 1 (spherical: one scale for all).

EM first converges on a subset of the rows, then on subsets four times as large each, last on all rows, each time to
the same tolerance. The result is a fixed point of EM on all rows.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot, threshold

from raectl.densities.covariance import SingularError
from raectl.densities.latents.standardizer import Standardizer
from raectl.densities.mixtures.parameters import MixtureParameters
from raectl.rng import torch_generator

_NEGLIGIBLE = -40.0  # log ratios to the largest below count as -inf: arithmetic of subnormal numbers is very slow
_PART_ROWS = 2**12  # size of the first subset at least; and at least 8 K d
TINY_COUNT = 10 * torch.finfo(torch.float64).eps  # added to counts, so that an empty component keeps its mean
_PART_NUMBERS = 2**22  # in a subset at most, since it is a copy: 16 MiB of float32

State = TypeVar("State")


@dataclass(frozen=True)
class Sums:
    """Sums of an E-step over rows: log-likelihood, r (K,), r y (K, d), r y y^T (stored shape of the covariance)."""

    log_likelihood: float
    counts: Tensor
    first: Tensor
    scatter: Tensor


@dataclass(frozen=True)
class EMResult(Generic[State]):
    """The final state, and the mean log-likelihood per row at the start and after each M-step on all rows.

    `on_parts` counts the M-steps on subsets of the rows.
    """

    state: State
    history: list[float]
    converged: bool
    on_parts: int = 0

    @property
    def stats(self) -> dict[str, float | int | bool | str]:
        """Iterations, convergence and log-likelihood, for `Density.stats`."""
        return {
            "iterations": len(self.history) - 1,
            "iterations_on_parts": self.on_parts,
            "converged": self.converged,
            "log_likelihood": self.history[-1],
        }


def e_step(z: Tensor, standardizer: Standardizer, mixture: MixtureParameters, *, hard: bool = False) -> Sums:
    """The E-step and the sums that the M-step needs, in one pass over the data.

    Arguments:
        mixture: the current parameters, in standardized units.
        hard: assign each row to its likeliest component, as k-means does.
    """
    k, d = mixture.means.shape
    whiten = mixture.kind.whitener(mixture.means, mixture.factors, z.dtype)
    constants = mixture.log_constants().to(z.dtype)
    log_likelihood = 0.0
    counts, first = torch.zeros(k, dtype=torch.float64), torch.zeros(k, d, dtype=torch.float64)
    scatter = torch.zeros_like(mixture.covariances)
    for x in standardizer.rows(z, k * d):
        y = whiten(x)  # (n, K, d)
        joint = constants - 0.5 * torch.linalg.vector_norm(y, dim=2).square()  # (n, K)
        total, root = root_responsibilities(joint)
        log_likelihood += float(total.sum(dtype=torch.float64))
        root = one_hot(joint.argmax(dim=1), k).to(z.dtype) if hard else root
        y *= root[:, :, None]
        counts += root.square().sum(dim=0)
        first += torch.bmm(root.T[:, None, :], y.transpose(0, 1))[:, 0]
        scatter += mixture.kind.scatter(y)
    return Sums(log_likelihood - len(z) * float(standardizer.scale.log().sum()), counts, first, scatter)


def root_responsibilities(joint: Tensor) -> tuple[Tensor, Tensor]:
    """log p(x), (n,), and sqrt(r), (n, K), 0 where it is negligible, from log p(x, k): (n, K)."""
    largest = joint.amax(dim=1, keepdim=True)
    shares = threshold(joint - largest, _NEGLIGIBLE, -torch.inf, inplace=True).exp_()
    total = shares.sum(dim=1, keepdim=True)
    return (largest + total.log())[:, 0], shares.div_(total).sqrt_()


def m_step(
    mixture: MixtureParameters, sums: Sums, ridge: float, members: Tensor | None = None, shrinkage: float = 0.0
) -> MixtureParameters:
    """The M-step; weights are proportional to `members` (K,), or to the counts.

    Covariances are shrunk towards the pooled one by `shrinkage` nu, then `ridge` is added to the variances:

        Sigma_k <- (n_k Sigma_k + nu P) / (n_k + nu)        P = sum_k n_k Sigma_k / sum_k n_k
    """
    kind = mixture.kind
    k, d = mixture.means.shape
    counts = sums.counts + TINY_COUNT
    covariances = kind.refit(mixture.factors, counts, sums.first, sums.scatter)
    if shrinkage and len(covariances) == k > 1:  # not one tied covariance
        n = counts if members is None else members + TINY_COUNT
        share = (n / (n + shrinkage)).reshape(-1, *[1] * (covariances.ndim - 1))
        pooled = torch.tensordot(n / n.sum(), covariances, 1)
        covariances = share * covariances + (1 - share) * pooled
    covariances = covariances + kind.diagonal(torch.full((d,), ridge, dtype=torch.float64), k)
    means = mixture.means + kind.shift(mixture.factors, sums.first / counts[:, None])
    weights = counts if members is None else members + TINY_COUNT
    weights = weights / weights.sum()
    try:
        return MixtureParameters(kind, weights, means, covariances)
    except SingularError:  # a component collapsed within one step, by float32's rounding
        return MixtureParameters(kind, weights, means, kind.floor(covariances, ridge))


def some_rows(z: Tensor, rows: int, seed: int) -> Tensor:
    """A random subset of z's rows in their order, one from each of `rows` equal intervals; all if there are no more.

    Example:
        >>> (some_rows(torch.arange(6), 3, seed=0) // 2).tolist()
        [0, 1, 2]
    """
    if rows >= len(z):
        return z
    edges = torch.arange(rows + 1) * len(z) // rows
    u = torch.rand(rows, generator=torch_generator(seed, "rows of a part", 0), dtype=torch.float64)
    return z[edges[:-1] + (u * edges.diff()).long()]


def parts(z: Tensor, numbers: int, seed: int) -> Iterator[Tensor]:
    """Random subsets of z's rows, growing by factors of four, then z; the first has 8 `numbers` rows or more."""
    rows = max(_PART_ROWS, 8 * numbers)
    while 2 * rows < len(z) and rows * z.shape[1] <= _PART_NUMBERS:
        yield some_rows(z, rows, seed)
        rows *= 4
    yield z


def run_em(
    z: Tensor, step: Callable[[Tensor, State], tuple[float, State]], state: State, *, max_iter: int, tol: float
) -> EMResult[State]:
    """EM on z until it converges.

    Arguments:
        step: an iteration: rows, state => the rows' mean log-likelihood under the state, and the next state.
        max_iter: at most this many iterations.
        tol: stop when an iteration changes the mean log-likelihood per row by less (nats).
    """
    history: list[float] = []
    while True:
        log_likelihood, next_state = step(z, state)
        history.append(log_likelihood)
        converged = len(history) > 1 and abs(history[-1] - history[-2]) < tol
        if converged or len(history) > max_iter:
            return EMResult(state, history, converged)
        state = next_state


def run_em_on_parts(
    z: Tensor,
    step: Callable[[Tensor, State], tuple[float, State]],
    state: State,
    numbers: int,
    *,
    seed: int,
    max_iter: int,
    tol: float,
) -> EMResult[State]:
    """`run_em` on the subsets of the rows that `parts` yields, each from the state in which the one before ended.

    The means have so many `numbers`, which decides the size of the first subset; `max_iter` is of each.
    """
    on_parts = 0
    for part in parts(z, numbers, seed):
        result = run_em(part, step, state, max_iter=max_iter, tol=tol)
        state = result.state
        on_parts += len(result.history) - 1
    return replace(result, on_parts=on_parts - len(result.history) + 1)


def in_units(mixture: MixtureParameters, standardizer: Standardizer, dtype: torch.dtype) -> MixtureParameters:
    """A mixture in standardized units, converted to the units of the data, which have this type."""
    centre = standardizer.centre.to(dtype)  # rounded, as it was when it was subtracted
    means = mixture.means * standardizer.scale + centre
    covariances = mixture.kind.rescale(mixture.covariances, standardizer.scale)
    return MixtureParameters(mixture.kind, mixture.weights, means, covariances)
