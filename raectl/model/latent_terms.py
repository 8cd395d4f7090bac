"""Latent terms of the loss, which shape the distribution of the codes; weighted by beta."""

from collections.abc import Callable

import torch
from torch import Tensor

from raectl.model.codes import Codes

# Codes of a batch => a value per item, (B,), or per sample, (K, B). The generator draws the term's noise, if any.
LatentTerm = Callable[[Codes, torch.Generator | None], Tensor]


def half_squared_norm(codes: Codes, generator: torch.Generator | None = None) -> Tensor:
    """L = 1/2 ||z||^2: (B,). RAE's latent term (Ghosh et al. 2020, section 3)."""
    return 0.5 * codes.z.square().sum(dim=1)


def nothing(codes: Codes, generator: torch.Generator | None = None) -> Tensor:
    """L = 0: (B,). The plain autoencoder."""
    return codes.z.new_zeros(len(codes.z))


def kl(codes: Codes, generator: torch.Generator | None = None) -> Tensor:
    """L = KL(N(mu, sigma^2) || N(0, I)) = 1/2 sum_d (sigma^2 + mu^2 - 1 - 2 log sigma): (B,), in nats."""
    if codes.log_sigma is None:
        raise ValueError("the KL term needs a code with a standard deviation")
    variance = (2 * codes.log_sigma).exp()
    return 0.5 * (variance + codes.mu.square() - 1 - 2 * codes.log_sigma).sum(dim=1)


def log_ratio(codes: Codes, generator: torch.Generator | None = None) -> Tensor:
    """L_k = log q(z_k | x) - log p(z_k), q = N(mu, sigma^2), p = N(0, I): (K, B), in nats.

    Its expectation is the KL divergence. `Loss` combines the values of the K samples into IWAE's bound.
    """
    if codes.log_sigma is None:
        raise ValueError("the log-ratio needs a code with a standard deviation")
    z = codes.z.view(-1, *codes.mu.shape)  # (K B, d) => (K, B, d)
    eps = (z - codes.mu) * (-codes.log_sigma).exp()
    return (0.5 * (z.square() - eps.square()) - codes.log_sigma).sum(dim=2)


_SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def mmd(codes: Codes, generator: torch.Generator | None = None) -> Tensor:
    """Squared maximum mean discrepancy between the batch's codes and as many samples of N(0, I): (B,), all equal.

        k(a, b) = sum_s C_s / (C_s + ||a - b||^2),   C_s = 2 d s,   s in {.1, .2, .5, 1, 2, 5, 10}
        MMD^2 = mean_{i != j} k(z_i, z_j) + mean_{i != j} k(p_i, p_j) - 2 mean k(z_i, p_j)

    Unbiased, so it may be negative. 0 for a batch of one.

    Reference: Tolstikhin, Bousquet, Gelly, Schoelkopf, "Wasserstein Auto-Encoders", ICLR 2018, algorithm 2.
    """
    n, d = codes.z.shape
    if n < 2:
        return codes.z.new_zeros(n)
    draws = torch.randn(codes.z.shape, generator=generator, device=codes.z.device, dtype=codes.z.dtype)
    z, draws = (points.to(torch.promote_types(points.dtype, torch.float32)) for points in (codes.z, draws))

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        # Distances by differences, as |a|^2 + |b|^2 - 2 a.b cancels where they are small, but (B, B) in memory.
        squared = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()
        return torch.stack([2 * d * s / (2 * d * s + squared) for s in _SCALES]).sum(dim=0)

    def within(a: Tensor) -> Tensor:
        k = kernel(a, a)
        return (k.sum() - k.diagonal().sum()) / (n * (n - 1))

    return (within(z) + within(draws) - 2 * kernel(z, draws).mean()).expand(n)
