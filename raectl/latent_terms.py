"""Terms of the objective that shape the distribution of the codes, each (B,), weighted by beta."""

from collections.abc import Callable

from torch import Tensor

from raectl.codes import Codes

LatentTerm = Callable[[Codes], Tensor]


def half_squared_norm(codes: Codes) -> Tensor:
    """L = 1/2 ||z||^2: (B,). RAE's latent term (Ghosh et al. 2020, section 3)."""
    return 0.5 * codes.z.square().sum(dim=1)


def nothing(codes: Codes) -> Tensor:
    """L = 0: (B,). The plain autoencoder."""
    return codes.z.new_zeros(len(codes.z))


def kl(codes: Codes) -> Tensor:
    """L = KL(N(mu, sigma^2) || N(0, I)) = 1/2 sum_d (sigma^2 + mu^2 - 1 - 2 log sigma): (B,), in nats.

    Raises:
        ValueError: the code is deterministic and has no sigma.
    """
    if codes.log_sigma is None:
        raise ValueError("the KL term needs a code with a standard deviation")
    variance = (2 * codes.log_sigma).exp()
    return 0.5 * (variance + codes.mu.square() - 1 - 2 * codes.log_sigma).sum(dim=1)
