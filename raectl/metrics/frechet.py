"""The Fréchet distance between Gaussians fitted to two sets of features (FID)."""

import torch
from torch import Tensor

from raectl.metrics.reference import Measured, Reference, rows_at_once


def frechet(reference: Reference, features: Tensor) -> dict[str, Measured]:
    """The set metric `frechet`: see `frechet_distance`. No standard error."""
    return {"frechet": Measured(frechet_distance(reference, features))}


def frechet_distance(reference: Reference, features: Tensor) -> float:
    """Squared Fréchet (2-Wasserstein) distance of two Gaussians, in the features' squared units; lower is better.

        d^2 = |m_1 - m_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2))

    with means m and unbiased covariances S (divided by N - 1). The trace of (S_1 S_2)^(1/2) is computed as that of the
    symmetric (S_1^(1/2) S_2 S_1^(1/2))^(1/2), in float64, so singular covariances need no correction. With the
    features of Inception (`extractors/inception.py`) this is the FID.

    Biased upwards, by about a constant divided by min(N, M): compare values at equal N and M only. With fewer items
    than features the covariances are singular; the distance is then dominated by that bias.

    References:
        GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium, Heusel, Ramsauer,
        Unterthiner, Nessler, Hochreiter, 2017, eq. 6.
        The Fréchet Distance between Multivariate Normal Distributions, Dowson, Landau, 1982.
        Effectively Unbiased FID and Inception Score and Where to Find Them, Chong, Forsyth, 2020 (the bias).

    Example:
        >>> x = torch.tensor([[0.0], [2.0], [4.0]])
        >>> round(frechet_distance(Reference(x), 2 * x), 6)  # means 2 and 4, standard deviations 2 and 4
        8.0
    """
    features = reference.check(features)
    real_mean, real_covariance, factor = reference.once(_fit_gaussian)
    mean, covariance = _moments(features)
    # With S_1 = F F^T, F^T S_2 F has the nonzero eigenvalues of S_1^(1/2) S_2 S_1^(1/2).
    root = torch.linalg.eigvalsh(factor.T @ covariance @ factor).clamp_min(0).sqrt().sum()
    squares = (real_mean - mean).square().sum() + real_covariance.trace() + covariance.trace()
    return max(float(squares - 2 * root), 0.0)


def _fit_gaussian(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (D,), covariance (D, D) and factor (D, rank), where covariance = factor factor^T."""
    mean, covariance = _moments(features)
    values, vectors = torch.linalg.eigh(covariance)
    # Eigenvalues that are rounding errors would add their square roots to the trace.
    kept = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
    return mean, covariance, vectors[:, kept] * values[kept].sqrt()


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
