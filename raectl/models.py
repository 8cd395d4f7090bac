"""The model table: each row is a code and a latent term, over the same encoder, decoder and regularizers.

A new model is a row here and a line in the registry.
"""

from collections.abc import Callable
from dataclasses import dataclass

from raectl import codes, latent_terms


@dataclass(frozen=True)
class Model:
    """A row of the table.

    Arguments:
        code: how the encoder's features become z.
        latent: the latent term, (B,) from a batch of codes.
        beta: its default weight, from D (values of an item) and d (latent dimensions).
        prior: whether training drives the codes to N(0, I), so that samples can be drawn without a fitted density.
    """

    code: type[codes.Code]
    latent: latent_terms.LatentTerm
    beta: Callable[[int, int], float]
    prior: bool


RAE = Model(
    codes.Deterministic,
    latent_terms.half_squared_norm,
    beta=lambda data_dim, latent_dim: 2e-4 * data_dim / latent_dim,
    prior=False,
)
AE = Model(codes.Deterministic, latent_terms.nothing, beta=lambda data_dim, latent_dim: 0.0, prior=False)
VAE = Model(codes.Gaussian, latent_terms.kl, beta=lambda data_dim, latent_dim: 0.3, prior=True)
