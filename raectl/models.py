"""The model table: each row is a code and a latent term, over the same encoder, decoder and regularizers.

A new model is a row here and a line in the registry.
"""

from collections.abc import Callable
from dataclasses import dataclass

from raectl import codes, latent_terms
from raectl.config import Config


@dataclass(frozen=True)
class Model:
    """A row of the table.

    Arguments:
        code: makes the code from the number of features, d and the configuration.
        latent: the latent term, (B,) from a batch of codes.
        beta: its default weight, from D (values of an item) and d (latent dimensions).
        prior: whether training drives the codes to N(0, I), so that samples can be drawn without a fitted density.
    """

    code: Callable[[int, int, Config], codes.Code]
    latent: latent_terms.LatentTerm
    beta: Callable[[int, int], float]
    prior: bool


def _deterministic(features: int, latent_dim: int, config: Config) -> codes.Code:
    return codes.Deterministic(features, latent_dim)


def _gaussian(features: int, latent_dim: int, config: Config) -> codes.Code:
    return codes.Gaussian(features, latent_dim)


def _constant_gaussian(features: int, latent_dim: int, config: Config) -> codes.Code:
    return codes.ConstantGaussian(features, latent_dim, config.sigma)


# fmt: off
#              code                latent term                      default beta                prior
RAE = Model(   _deterministic,     latent_terms.half_squared_norm,  lambda D, d: 2e-4 * D / d,  prior=False)
AE = Model(    _deterministic,     latent_terms.nothing,            lambda D, d: 0.0,           prior=False)
VAE = Model(   _gaussian,          latent_terms.kl,                 lambda D, d: 0.3,           prior=True)
CV_VAE = Model(_constant_gaussian, latent_terms.kl,                 lambda D, d: 0.03,          prior=True)
WAE = Model(   _deterministic,     latent_terms.mmd,                lambda D, d: 0.03 * D,      prior=True)
# fmt: on
