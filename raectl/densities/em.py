"""Expectation maximization for mixtures of normals, in one pass over the data per iteration.

    E:  r_nk = w_k N(x_n; mu_k, Sigma_k) / sum_j w_j N(x_n; mu_j, Sigma_j)
    M:  n_k = sum_n r_nk     mu_k = sum_n r_nk x_n / n_k     Sigma_k = sum_n r_nk (x_n - mu_k)(x_n - mu_k)^T / n_k

Reference: Bishop, "Pattern Recognition and Machine Learning", 2006, equations 9.23 to 9.26.

The sums of the M-step are taken over the whitened residuals y = L^-1 (x - mu) that the E-step has just computed for a
chunk of rows, so neither responsibilities nor a second copy of the data are ever held:

    m_k = sum_n r_nk y_nk / n_k     mu_k += L_k m_k     Sigma_k = L_k (sum_n r_nk y_nk y_nk^T / n_k - m_k m_k^T) L_k^T

Products run in the data's type (float32 for latents), sums over chunks and everything of size K in float64.
Each dimension is first shifted and scaled to mean 0 and standard deviation 1 (spherical: one scale for all).
"""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from raectl.densities.covariance import Covariance, SingularError
from raectl.densities.frame import Frame
from raectl.densities.normals import Normals
from raectl.noise import permutation

_KMEANS_ROWS = 2**15  # at least; and 64 for each component


@dataclass(frozen=True)
class Sums:
    """What one pass over the data leaves: log-likelihood, sum r (K,), sum r y (K, d), sum r y y^T (as `Covariance`)."""

    log_likelihood: float
    counts: Tensor
    first: Tensor
    scatter: Tensor


@dataclass(frozen=True)
class Result:
    """The mixture in the data's units, and the mean log-likelihood per row of the start and after each M-step."""

    mixture: Normals
    history: list[float]
    converged: bool


def sweep(z: Tensor, frame: Frame, mixture: Normals, *, hard: bool = False) -> Sums:
    """One pass over the data: E-step and the sums of the M-step, chunk by chunk.

    Arguments:
        z: (N, d).
        frame: the units in which `mixture` is given.
        mixture: the current one.
        hard: give each row wholly to its likeliest component, as k-means does.
    """
    k, d = mixture.means.shape
    whiten = mixture.kind.whitener(mixture.means, mixture.factors, z.dtype)
    constants = mixture.log_constants().to(z.dtype)
    log_likelihood = 0.0
    counts, first = torch.zeros(k, dtype=torch.float64), torch.zeros(k, d, dtype=torch.float64)
    scatter = torch.zeros_like(mixture.covariances)
    for x in frame.rows(z, k * d):
        y = whiten(x)  # (n, K, d)
        joint = constants - 0.5 * torch.linalg.vector_norm(y, dim=2).square()  # (n, K)
        total = torch.logsumexp(joint, dim=1, keepdim=True)
        log_likelihood += float(total.sum(dtype=torch.float64))
        r = one_hot(joint.argmax(dim=1), k).to(z.dtype) if hard else (joint - total).exp_()
        weighted = y * r[:, :, None]
        counts += r.sum(dim=0)
        first += weighted.sum(dim=0)
        scatter += mixture.kind.scatter(weighted, y)
    return Sums(log_likelihood - len(z) * float(frame.scale.log().sum()), counts, first, scatter)


def maximized(mixture: Normals, sums: Sums, ridge: float) -> Normals:
    """The M-step: the mixture that fits the responsibilities behind `sums`, with `ridge` added to the variances."""
    kind = mixture.kind
    k, d = mixture.means.shape
    counts = sums.counts + 10 * torch.finfo(torch.float64).eps  # an empty component keeps its mean
    covariances = kind.refit(mixture.factors, counts, sums.first, sums.scatter)
    covariances = covariances + kind.diagonal(torch.full((d,), ridge, dtype=torch.float64), k)
    means = mixture.means + kind.shift(mixture.factors, sums.first / counts[:, None])
    weights = counts / counts.sum()
    try:
        return Normals(kind, weights, means, covariances)
    except SingularError:  # a component that collapsed within one step, by float32's rounding
        return Normals(kind, weights, means, kind.floor(covariances, ridge))


def kmeans_start(z: Tensor, frame: Frame, kind: Covariance, k: int, seed: int) -> Normals:
    """K-means in the frame: centres at equal weights, and unit covariances in the data's units, not the frame's.

    The centres come from scikit-learn on at most max(32768, 64 K) rows chosen by the seed: they only start EM, which
    sees all rows.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    rows = permutation(seed, 0, len(z))[: max(_KMEANS_ROWS, 64 * k)]
    chosen = z[torch.from_numpy(np.sort(rows))] if len(rows) < len(z) else z
    # One scale for all dimensions changes no distance's rank; it keeps squares within float32.
    usual = frame.scale.square().mean().sqrt()
    x = ((chosen - frame.centre.to(z.dtype)) / usual.to(z.dtype)).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than components
        # Threads would add their partial sums in whatever order they finish.
        with threadpool_limits(1, user_api="openmp"):
            centres = KMeans(k, n_init=1, random_state=seed & 0xFFFFFFFF).fit(x).cluster_centers_
    ratio = frame.scale / usual
    weights = torch.full((k,), 1 / k, dtype=torch.float64)
    means = torch.from_numpy(centres.astype(np.float64)) / ratio
    return Normals(kind, weights, means, kind.diagonal(ratio.square().reciprocal(), k))


def fit_mixture(
    z: Tensor, frame: Frame, kind: Covariance, k: int, *, seed: int, max_iter: int, tol: float, ridge: float
) -> Result:
    """Fit a mixture of K normals to z: (N, d) by EM from a k-means start.

    Arguments:
        max_iter: at most this many M-steps.
        tol: stop when an iteration changes the mean log-likelihood per row by less (nats).
        ridge: added to the variances in the frame's units.
    """
    start = kmeans_start(z, frame, kind, k, seed)
    mixture = maximized(start, sweep(z, frame, start, hard=True), ridge)
    history: list[float] = []
    while True:
        sums = sweep(z, frame, mixture)
        history.append(sums.log_likelihood / len(z))
        converged = len(history) > 1 and abs(history[-1] - history[-2]) < tol
        if converged or len(history) > max_iter:
            break
        mixture = maximized(mixture, sums, ridge)
    means = mixture.means * frame.scale + frame.centre.to(z.dtype)  # the centre as it was taken off, rounded
    covariances = kind.rescale(mixture.covariances, frame.scale)
    return Result(Normals(kind, mixture.weights, means, covariances), history, converged)
