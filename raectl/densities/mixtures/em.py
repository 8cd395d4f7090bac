"""Expectation maximization for mixtures of normals, in one pass over the data per iteration.

    E:  r_nk = w_k N(x_n; mu_k, Sigma_k) / sum_j w_j N(x_n; mu_j, Sigma_j)
    M:  n_k = sum_n r_nk     mu_k = sum_n r_nk x_n / n_k     Sigma_k = sum_n r_nk (x_n - mu_k)(x_n - mu_k)^T / n_k

References: Bishop, "Pattern Recognition and Machine Learning", 2006, equations 9.23 to 9.26. Bradley, Fayyad, Reina,
"Scaling EM Clustering to Large Databases", Microsoft Research MSR-TR-98-35, 1998 (parts of the data before all).

The sums of the M-step are taken over the whitened residuals y = L^-1 (x - mu) that the E-step has just computed for a
chunk of rows, so neither responsibilities nor a second copy of the data are ever held:

    m_k = sum_n r_nk y_nk / n_k     mu_k += L_k m_k     Sigma_k = L_k (sum_n r_nk y_nk y_nk^T / n_k - m_k m_k^T) L_k^T

Products run in the data's type (float32 for latents), sums over chunks and everything of size K in float64.
Each dimension is first shifted and scaled to mean 0 and standard deviation 1 (spherical: one scale for all).

Most iterations run on a part of the rows, as many as fix the parameters roughly, then on four times as many, and so on;
the last ones, to the same tolerance, on all rows. What is found is a fixed point of EM on all of them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot, threshold

from raectl.densities.covariance import Covariance, SingularError
from raectl.densities.mixtures.kmeans import kmeans
from raectl.densities.mixtures.parameters import MixtureParameters
from raectl.densities.standardizer import Standardizer
from raectl.rng import torch_generator

_NEGLIGIBLE = -40.0  # log of a responsibility taken as 0: products of float32's subnormal numbers are many times slower
_KMEANS_ROWS = 2**13  # at least; and 64 for each component, 256 for each dimension
_PART_ROWS = 2**12  # of the first part at least; and 8 for each of the K d numbers in the means
_PART_NUMBERS = 2**22  # in a part at most, as it is a copy: 16 MiB of float32

State = TypeVar("State")


@dataclass(frozen=True)
class Sums:
    """What one pass over the data leaves: log-likelihood, sum r (K,), sum r y (K, d), sum r y y^T (as `Covariance`)."""

    log_likelihood: float
    counts: Tensor
    first: Tensor
    scatter: Tensor


@dataclass(frozen=True)
class EMResult(Generic[State]):
    """Where EM ended, the mean log-likelihood per row of its start and after each M-step on all rows.

    `on_parts` counts the M-steps on parts of the rows before.
    """

    state: State
    history: list[float]
    converged: bool
    on_parts: int = 0

    @property
    def stats(self) -> dict[str, float | int | bool | str]:
        """Iterations, convergence and log-likelihood, as a density's report holds them."""
        return {
            "iterations": len(self.history) - 1,
            "iterations_on_parts": self.on_parts,
            "converged": self.converged,
            "log_likelihood": self.history[-1],
        }


def e_step(z: Tensor, standardizer: Standardizer, mixture: MixtureParameters, *, hard: bool = False) -> Sums:
    """One pass over the data: E-step and the sums of the M-step, chunk by chunk.

    Arguments:
        z: (N, d).
        standardizer: the units in which `mixture` is given.
        mixture: the current one.
        hard: give each row wholly to its likeliest component, as k-means does.
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
        total = torch.logsumexp(joint, dim=1, keepdim=True)
        log_likelihood += float(total.sum(dtype=torch.float64))
        likeliest = joint.argmax(dim=1) if hard else None
        root = root_responsibilities(joint, total) if likeliest is None else one_hot(likeliest, k).to(z.dtype)
        y *= root[:, :, None]
        counts += root.square().sum(dim=0)
        first += torch.bmm(root.T[:, None, :], y.transpose(0, 1))[:, 0]
        scatter += mixture.kind.scatter(y)
    return Sums(log_likelihood - len(z) * float(standardizer.scale.log().sum()), counts, first, scatter)


def root_responsibilities(joint: Tensor, total: Tensor) -> Tensor:
    """sqrt(r) from the log of the joint density (n, K) and of its sum (n, 1), 0 where it is negligible."""
    return threshold((joint - total).mul_(0.5), _NEGLIGIBLE / 2, -torch.inf, inplace=True).exp_()


def m_step(mixture: MixtureParameters, sums: Sums, ridge: float) -> MixtureParameters:
    """The M-step: the mixture that fits the responsibilities behind `sums`, with `ridge` added to the variances."""
    kind = mixture.kind
    k, d = mixture.means.shape
    counts = sums.counts + 10 * torch.finfo(torch.float64).eps  # an empty component keeps its mean
    covariances = kind.refit(mixture.factors, counts, sums.first, sums.scatter)
    covariances = covariances + kind.diagonal(torch.full((d,), ridge, dtype=torch.float64), k)
    means = mixture.means + kind.shift(mixture.factors, sums.first / counts[:, None])
    weights = counts / counts.sum()
    try:
        return MixtureParameters(kind, weights, means, covariances)
    except SingularError:  # a component that collapsed within one step, by float32's rounding
        return MixtureParameters(kind, weights, means, kind.floor(covariances, ridge))


def some_rows(z: Tensor, rows: int, seed: int) -> Tensor:
    """Rows of z in their order, one drawn from each of that many equal stretches; all of them if there are no more.

    Example:
        >>> (some_rows(torch.arange(6), 3, seed=0) // 2).tolist()
        [0, 1, 2]
    """
    if rows >= len(z):
        return z
    edges = torch.arange(rows + 1) * len(z) // rows
    u = torch.rand(rows, generator=torch_generator(seed, "rows of a part", 0), dtype=torch.float64)
    return z[edges[:-1] + (u * edges.diff()).long()]


def kmeans_start(z: Tensor, standardizer: Standardizer, kind: Covariance, k: int, seed: int) -> MixtureParameters:
    """K-means on standardized rows: its centres at equal weights, with the identity in the data's units as covariances.

    The centres are those of at most max(8192, 64 K, 256 d) rows chosen by the seed: they only start EM, which sees all
    rows, but a poor start ends in a poor mixture.
    """
    chosen = some_rows(z, max(_KMEANS_ROWS, 64 * k, 256 * z.shape[1]), seed)
    # One scale for all dimensions changes no distance's rank; it keeps squares within float32.
    usual = standardizer.scale.square().mean().sqrt()
    x = (chosen.clone() if chosen is z else chosen).sub_(standardizer.centre.to(z.dtype)).div_(usual.to(z.dtype))
    centres = kmeans(x, k, torch_generator(seed, "k-means", 0))
    ratio = standardizer.scale / usual
    weights = torch.full((k,), 1 / k, dtype=torch.float64)
    return MixtureParameters(kind, weights, centres.double() / ratio, kind.diagonal(ratio.square().reciprocal(), k))


def parts(z: Tensor, numbers: int, seed: int) -> Iterator[Tensor]:
    """Ever more rows of z: (N, d), at first as many as fix this many numbers in the means, at last all."""
    rows = max(_PART_ROWS, 8 * numbers)
    while 2 * rows < len(z) and rows * z.shape[1] <= _PART_NUMBERS:
        yield some_rows(z, rows, seed)
        rows *= 4
    yield z


def run_em(
    z: Tensor, step: Callable[[Tensor, State], tuple[float, State]], state: State, *, max_iter: int, tol: float
) -> EMResult[State]:
    """EM until it has converged on z.

    Arguments:
        step: rows and a state => the rows' mean log-likelihood under it, and what an iteration makes of it.
        max_iter: at most this many iterations.
        tol: stop when an iteration changes the mean log-likelihood per row by less (nats).
    """
    history: list[float] = []
    while True:
        log_likelihood, following = step(z, state)
        history.append(log_likelihood)
        converged = len(history) > 1 and abs(history[-1] - history[-2]) < tol
        if converged or len(history) > max_iter:
            return EMResult(state, history, converged)
        state = following


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
    """`run_em` on each of the `parts` in turn, from where the one before ended; `max_iter` holds for each."""
    on_parts = 0
    for part in parts(z, numbers, seed):
        result = run_em(part, step, state, max_iter=max_iter, tol=tol)
        state = result.state
        on_parts += len(result.history) - 1
    return replace(result, on_parts=on_parts - len(result.history) + 1)


def fit_mixture(
    z: Tensor,
    standardizer: Standardizer,
    kind: Covariance,
    k: int,
    *,
    seed: int,
    max_iter: int,
    tol: float,
    ridge: float,
) -> EMResult[MixtureParameters]:
    """Fit a mixture of K normals to z: (N, d), in the standardizer's units, by EM from a k-means start.

    Arguments:
        max_iter: at most this many M-steps on all rows.
        tol: stop when an iteration changes the mean log-likelihood per row by less (nats).
        ridge: added to the variances.
    """

    def step(rows: Tensor, mixture: MixtureParameters) -> tuple[float, MixtureParameters]:
        sums = e_step(rows, standardizer, mixture)
        return sums.log_likelihood / len(rows), m_step(mixture, sums, ridge)

    start = kmeans_start(z, standardizer, kind, k, seed)
    first = next(parts(z, k * z.shape[1], seed))
    start = m_step(start, e_step(first, standardizer, start, hard=True), ridge)
    return run_em_on_parts(z, step, start, start.means.numel(), seed=seed, max_iter=max_iter, tol=tol)


def in_units(mixture: MixtureParameters, standardizer: Standardizer, dtype: torch.dtype) -> MixtureParameters:
    """A mixture given in the standardizer, in the units of data of this type."""
    means = mixture.means * standardizer.scale + standardizer.centre.to(
        dtype
    )  # the centre as it was taken off, rounded
    return MixtureParameters(
        mixture.kind, mixture.weights, means, mixture.kind.rescale(mixture.covariances, standardizer.scale)
    )
