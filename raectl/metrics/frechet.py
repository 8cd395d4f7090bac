"""The Fréchet distance between normal distributions fitted to two sets of features."""

from typing import NamedTuple

import torch
from torch import Tensor

from raectl.metrics.reference import Measured, Reference, rows_at_once


def frechet(reference: Reference, features: Tensor) -> dict[str, Measured]:
    """The measure `frechet`: see `frechet_distance`. It has no standard error."""
    return {"frechet": Measured(frechet_distance(reference, features))}


def frechet_distance(reference: Reference, features: Tensor) -> float:
    """Squared Fréchet (2-Wasserstein) distance of two normal distributions, in the features' squared units.

        d^2 = |m_1 - m_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2))

    with means m and unbiased covariances S (divided by N - 1). (S_1 S_2)^(1/2) has the trace of
    (S_1^(1/2) S_2 S_1^(1/2))^(1/2), which is symmetric: its eigenvalues are real, those that rounding makes negative
    are zero, and singular covariances need no correction. In float64. Lower is better. On the features of one
    Inception network this is the FID; on any others it is not, and must not be called so.

    Biased upwards at every finite N and M, by about a constant over the smaller: only numbers at equal N and M can be
    compared, beside the distance between two sets of real items of these sizes. With fewer items than features the
    covariances are singular; the value is then exact for the two fits, but says little of the distributions.

    References:
        GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium, Heusel, Ramsauer,
        Unterthiner, Nessler, Hochreiter, 2017, eq. 6.
        The Fréchet Distance between Multivariate Normal Distributions, Dowson, Landau, 1982.
        Effectively Unbiased FID and Inception Score and Where to Find Them, Chong, Forsyth, 2020 (the bias).

    Arguments:
        reference: (N, D) features of real items.
        features: (M, D).

    Raises:
        RaectlError: a set of fewer than 2 items, another D, or values that are not finite.

    Example:
        >>> x = torch.tensor([[0.0], [2.0], [4.0]])
        >>> round(frechet_distance(Reference(x), 2 * x), 6)  # means 2 and 4, standard deviations 2 and 4
        8.0
    """
    features = reference.check(features)
    real = reference.once(_fit)
    mean, covariance = _moments(features)
    # F' S_2 F has the eigenvalues of S_1^(1/2) S_2 S_1^(1/2) that are not zero, S_1 = F F'.
    root = torch.linalg.eigvalsh(real.factor.T @ covariance @ real.factor).clamp_min(0).sqrt().sum()
    squares = (real.mean - mean).square().sum() + real.covariance.trace() + covariance.trace()
    return max(float(squares - 2 * root), 0.0)


class _Fit(NamedTuple):
    """A normal distribution; `factor` is (D, rank), and times its own transpose the covariance."""

    mean: Tensor
    covariance: Tensor
    factor: Tensor


def _fit(features: Tensor) -> _Fit:
    mean, covariance = _moments(features)
    values, vectors = torch.linalg.eigh(covariance)
    # Directions of nothing but rounding would bring the root of it into the trace, each one anew.
    kept = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
    return _Fit(mean, covariance, vectors[:, kept] * values[kept].sqrt())


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """(D,) mean and (D, D) unbiased covariance, float64."""
    n, d = features.shape
    mean = torch.zeros(d, dtype=torch.float64)
    covariance = torch.zeros(d, d, dtype=torch.float64)
    for part in torch.split(features, rows_at_once(d)):
        mean += part.double().sum(dim=0) / n
    for part in torch.split(features, rows_at_once(d)):
        x = part.double() - mean
        covariance += x.T @ x / (n - 1)
    return mean, covariance
