"""From the encoder's features to z: a point, or a draw from a Gaussian.

Each code owns the dense layers that read the features, so that an encoder need not know which model it serves.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_LOG_SIGMA_BOUND = 5.0


@dataclass(frozen=True)
class Codes:
    """A batch of codes: z as the decoder sees it, and what the latent terms need.

    Arguments:
        z: (K B, d), drawn where the code is stochastic; K draws an item, one batch after the other, mostly K = 1.
        mu: (B, d), the point that stands for the item in densities.
        log_sigma: (B, d) or None, log of the standard deviation.
    """

    z: Tensor
    mu: Tensor
    log_sigma: Tensor | None = None


class Code(nn.Module, ABC):
    """A way to turn features (B, F) into codes (B, d)."""

    def __init__(self, features: int, latent_dim: int) -> None:
        super().__init__()
        self.mu = nn.Linear(features, latent_dim)

    def mean(self, features: Tensor) -> Tensor:
        """The point that stands for each item: (B, F) => (B, d), in float32."""
        mu: Tensor = self.mu(features)
        return mu.float()

    @abstractmethod
    def forward(self, features: Tensor, generator: torch.Generator | None = None) -> Codes:
        """Features (B, F) to codes; `generator` gives the noise of a stochastic code."""


class Deterministic(Code):
    """z = mu(features): the code of RAE and AE."""

    def forward(self, features: Tensor, generator: torch.Generator | None = None) -> Codes:
        """Features (B, F) to codes, z = mu."""
        z = self.mean(features)
        return Codes(z, z)


class Gaussian(Code):
    """z = mu + sigma * eps, eps ~ N(0, I), log sigma = 5 tanh(dense(features)): the code of the paper's VAE.

    Arguments:
        samples: K, draws an item.
    """

    def __init__(self, features: int, latent_dim: int, samples: int = 1) -> None:
        super().__init__(features, latent_dim)
        self.samples = samples
        self.log_sigma = nn.Linear(features, latent_dim)

    def forward(self, features: Tensor, generator: torch.Generator | None = None) -> Codes:
        """Features (B, F) to codes, z drawn from N(mu, sigma^2)."""
        mu = self.mean(features)
        log_sigma = _LOG_SIGMA_BOUND * torch.tanh(self.log_sigma(features).float())
        eps = torch.randn((self.samples, *mu.shape), generator=generator, device=mu.device, dtype=mu.dtype)
        return Codes((mu + log_sigma.exp() * eps).flatten(0, 1), mu, log_sigma)


class ConstantGaussian(Code):
    """z = mu + sigma * eps, eps ~ N(0, I), sigma one constant: the code of the paper's CV-VAE."""

    def __init__(self, features: int, latent_dim: int, sigma: float) -> None:
        super().__init__(features, latent_dim)
        self.sigma = sigma

    def forward(self, features: Tensor, generator: torch.Generator | None = None) -> Codes:
        """Features (B, F) to codes, z drawn from N(mu, sigma^2)."""
        mu = self.mean(features)
        eps = torch.randn(mu.shape, generator=generator, device=mu.device, dtype=mu.dtype)
        return Codes(mu + self.sigma * eps, mu, torch.full_like(mu, math.log(self.sigma)))
