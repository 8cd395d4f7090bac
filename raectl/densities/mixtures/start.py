"""Where EM for Gaussian mixtures starts: at three times as many components, merged to K.

EM ends in a local optimum where one component covers two clusters and two others share one; none of its steps leads out
of there, and of starts by k-means most end so. With components to spare every cluster has one of its own after a few
steps, and merging the nearest ones, see `merging`, leaves K that are well placed:

    3 K rows far from each other -> EM -> 2 K components -> EM -> 1.35 K components -> EM -> K components

Meanwhile the covariances are shrunk towards the pooled one, see `m_step`: each has few rows.

References: Ueda, Nakano, Ghahramani, Hinton, "SMEM Algorithm for Mixture Models", Neural Computation 12, 2000 (which
describes such optima). Figueiredo, Jain, "Unsupervised Learning of Finite Mixture Models", IEEE Transactions on Pattern
Analysis and Machine Intelligence 24, 2002 (too many components first).
"""

import torch
from torch import Tensor

from raectl.densities.covariance import Covariance
from raectl.densities.latents.standardizer import Standardizer
from raectl.densities.mixtures.em import EMResult, e_step, m_step, parts, run_em, run_em_on_parts, some_rows
from raectl.densities.mixtures.merging import merge_components
from raectl.densities.mixtures.parameters import MixtureParameters
from raectl.densities.mixtures.seeding import spread_rows
from raectl.rng import torch_generator

_SURPLUS = 3  # times K components at first,
_MOST = 64  # but at most so many more
_ROWS_EACH = 4  # rows a component at least
_STAGES = ((1.0, 4), (0.67, 3), (0.45, 3))  # share of the first components, EM steps


def start_mixture(
    z: Tensor, standardizer: Standardizer, kind: Covariance, k: int, *, seed: int, ridge: float, number: int = 0
) -> MixtureParameters:
    """A mixture of K Gaussians in standardized units from which EM starts, the `number`-th one; rows z: (n, d)."""
    most = max(k, min(_SURPLUS * k, k + _MOST, len(z) // _ROWS_EACH)) if k > 1 else 1
    sample = some_rows(z, max(1024, 64 * most), seed)
    (x,) = standardizer.rows(sample, 1)
    means = spread_rows(x, most, torch_generator(seed, "mixture start", number)).double()
    weights = torch.full((most,), 1 / most, dtype=torch.float64)
    mixture = MixtureParameters(kind, weights, means, kind.diagonal(torch.ones_like(standardizer.scale), most))
    shrinkage = float(z.shape[1])
    mixture = m_step(mixture, e_step(z, standardizer, mixture, hard=True), ridge, shrinkage=shrinkage)
    if most == k:
        return mixture
    for share, steps in _STAGES:
        mixture = merge_components(mixture, max(k, int(share * most)))
        for _ in range(steps):
            mixture = m_step(mixture, e_step(z, standardizer, mixture), ridge, shrinkage=shrinkage)
    return merge_components(mixture, k)


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
    starts: int = 1,
    shrinkage: float = 0.0,
) -> EMResult[MixtureParameters]:
    """Fit a mixture of K Gaussians to z: (N, d) by EM; the result is in standardized units.

    `ridge` and `shrinkage` are those of `m_step`, `max_iter` and `tol` those of `run_em_on_parts`. Of several
    starts, that is taken which is the likeliest when EM has converged on the first subset of the rows.
    """

    def step(rows: Tensor, mixture: MixtureParameters) -> tuple[float, MixtureParameters]:
        sums = e_step(rows, standardizer, mixture)
        return sums.log_likelihood / len(rows), m_step(mixture, sums, ridge, shrinkage=shrinkage)

    first = next(parts(z, k * z.shape[1], seed))
    numbers = range(starts if k > 1 else 1)
    found = [start_mixture(first, standardizer, kind, k, seed=seed, ridge=ridge, number=number) for number in numbers]
    if len(found) > 1:
        ends = [run_em(first, step, start, max_iter=max_iter, tol=tol) for start in found]
        found = [max(ends, key=lambda end: end.history[-1]).state]
    return run_em_on_parts(z, step, found[0], k * z.shape[1], seed=seed, max_iter=max_iter, tol=tol)
