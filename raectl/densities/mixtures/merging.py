"""Components of a mixture merged to fewer, which keeps mean and covariance of the whole.

    w = w_i + w_j    mu = (w_i mu_i + w_j mu_j) / w
    Sigma = (w_i Sigma_i + w_j Sigma_j) / w + (w_i w_j / w^2) (mu_i - mu_j)(mu_i - mu_j)^T
    cost = (w log det Sigma - w_i log det Sigma_i - w_j log det Sigma_j) / 2

The cost bounds what the merger takes from the mean log-likelihood; the cheapest pair is merged first.

Reference: Runnalls, "Kullback-Leibler Approach to Gaussian Mixture Reduction", IEEE Transactions on Aerospace and
Electronic Systems 43, 2007.
"""

import torch
from torch import Tensor

from raectl.densities.covariance import Covariance, SingularError
from raectl.densities.mixtures.parameters import MixtureParameters


def merge_components(mixture: MixtureParameters, k: int) -> MixtureParameters:
    """A mixture of K components from one of as many or more; a tied covariance becomes the mean of the merged ones."""
    if len(mixture.weights) <= k:
        return mixture
    merger = _Merger(mixture)
    for _ in range(len(mixture.weights) - k):
        merger.merge()
    kept = merger.alive.nonzero().flatten()
    weights, covariances = merger.weights[kept], merger.covariances[kept]
    if len(mixture.covariances) < len(mixture.weights):
        covariances = torch.tensordot(weights / weights.sum(), covariances, 1)[None]
    return MixtureParameters(mixture.kind, weights / weights.sum(), merger.means[kept], covariances)


class _Merger:
    """Components, of which some are no longer alive, and the cost of merging each two: (K, K), infinite if i = j."""

    def __init__(self, mixture: MixtureParameters) -> None:
        k, d = mixture.means.shape
        self.kind, self.weights, self.means = mixture.kind, mixture.weights.clone(), mixture.means.clone()
        self.covariances = mixture.covariances.expand(k, *mixture.covariances.shape[1:]).clone()
        self.log_dets = _log_dets(self.kind, self.covariances, d)
        self.alive = torch.ones(k, dtype=torch.bool)
        self.costs = torch.stack([self._costs(i) for i in range(k)])

    def merge(self) -> None:
        """Merge the pair of least cost."""
        i, j = sorted(divmod(int(self.costs.argmin()), len(self.costs)))
        weight, mean, covariance = self._merged(i, torch.tensor([j]))
        self.weights[i], self.means[i], self.covariances[i] = weight[0], mean[0], covariance[0]
        self.log_dets[i] = _log_dets(self.kind, covariance, len(mean[0]))[0]
        self.alive[j] = False
        self.costs[j] = self.costs[:, j] = torch.inf
        self.costs[i] = self.costs[:, i] = self._costs(i)

    def _merged(self, i: int, j: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Weights (n,), means (n, d) and covariances of component i merged with each of j: (n,)."""
        weight = (self.weights[i] + self.weights[j]).clamp_min(torch.finfo(torch.float64).tiny)
        share = self.weights[i] / weight
        away = self.means[i] - self.means[j]
        mean = self.means[j] + share[:, None] * away
        of_j = share.reshape(-1, *[1] * (self.covariances.ndim - 1))
        covariance = self.covariances[j] + of_j * (self.covariances[i] - self.covariances[j])
        return weight, mean, covariance + of_j * (1 - of_j) * self.kind.outer(away)

    def _costs(self, i: int) -> Tensor:
        """The cost of merging component i with each, (K,)."""
        every = torch.arange(len(self.weights))
        weight, mean, covariance = self._merged(i, every)
        whole = weight * _log_dets(self.kind, covariance, mean.shape[1])
        costs = whole - self.weights[i] * self.log_dets[i] - self.weights * self.log_dets
        return torch.where(self.alive & (every != i), costs, torch.inf)


def _log_dets(kind: Covariance, covariances: Tensor, d: int) -> Tensor:
    """Half of log det Sigma, (n,); that of the raised eigenvalues where one is singular."""
    try:
        factors = kind.factor(covariances)
    except SingularError:
        factors = kind.factor(kind.floor(covariances, torch.finfo(torch.float64).eps))
    return kind.log_det(factors, d)
