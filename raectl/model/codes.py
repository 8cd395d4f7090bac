"""Codes: dense layers that map the encoder's features to z, deterministic or sampled from a Gaussian."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_LOG_SIGMA_BOUND = 5.0


@dataclass(frozen=True)
class Codes:
    """A batch of codes."""

    z: Tensor  # (K B, d), the decoder's input: K samples per item (mostly K = 1), ordered sample by sample
    mu: Tensor  # (B, d), the mean, which densities are fitted to
    log_sigma: Tensor | None = None  # (B, d), log of the standard deviation; None for a deterministic code


class Code(nn.Module, ABC):
    """Maps features (B, F) to codes (B, d)."""

    def __init__(self, features: int, latent_dim: int) -> None:
        super().__init__()
        self.mu = nn.Linear(features, latent_dim)

    def mean(self, features: Tensor) -> Tensor:
        """The mean of each item's code: (B, F) => (B, d) float32."""
        mu: Tensor = self.mu(features)
        return mu.float()

    @abstractmethod
    def forward(self, features: Tensor, generator: torch.Generator | None = None) -> Codes:
        """Features (B, F) => codes; `generator` draws the noise of a stochastic code."""


class Deterministic(Code):
    """z = mu(features): the code of RAE and AE."""

    def forward(self, features: Tensor, generator: torch.Generator | None = None) -> Codes:
        z = self.mean(features)
        return Codes(z, z)


class Gaussian(Code):
    """K samples z = mu + sigma * eps, eps ~ N(0, I), log sigma = 5 tanh(dense(features)): the paper's VAE's code."""

    def __init__(self, features: int, latent_dim: int, samples: int = 1) -> None:
        super().__init__(features, latent_dim)
        self.samples = samples
        self.log_sigma = nn.Linear(features, latent_dim)

    def forward(self, features: Tensor, generator: torch.Generator | None = None) -> Codes:
        mu = self.mean(features)
        log_sigma = _LOG_SIGMA_BOUND * torch.tanh(self.log_sigma(features).float())
        eps = torch.randn((self.samples, *mu.shape), generator=generator, device=mu.device, dtype=mu.dtype)
        return Codes((mu + log_sigma.exp() * eps).flatten(0, 1), mu, log_sigma)


class ConstantGaussian(Code):
    """z = mu + sigma * eps, eps ~ N(0, I), sigma constant: the code of the paper's CV-VAE."""

    def __init__(self, features: int, latent_dim: int, sigma: float) -> None:
        super().__init__(features, latent_dim)
        self.sigma = sigma

    def forward(self, features: Tensor, generator: torch.Generator | None = None) -> Codes:
        mu = self.mean(features)
        eps = torch.randn(mu.shape, generator=generator, device=mu.device, dtype=mu.dtype)
        return Codes(mu + self.sigma * eps, mu, torch.full_like(mu, math.log(self.sigma)))
