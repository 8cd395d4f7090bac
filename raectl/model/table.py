"""The model table: each row is a code and a latent term, over the same encoder, decoder and regularizers.

A new model is a row here and a line in the registry.
"""

from collections.abc import Callable
from dataclasses import dataclass

from raectl.config import Config
from raectl.model import codes
from raectl.model.latent_terms import LatentTerm, half_squared_norm, kl, log_ratio, mmd, nothing


@dataclass(frozen=True)
class Model:
    """A row of the table.

    Arguments:
        code: makes the code from the number of features, d and the configuration.
        latent: the latent term, (B,) from a batch of codes, or (K, B).
        beta: its default weight, from D (values of an item) and d (latent dimensions).
        prior: whether training drives the codes to N(0, I), so that samples can be drawn without a fitted density.
        n: the density that column N of the paper's Table 1 is drawn from, as its caption has it.
    """

    code: Callable[[int, int, Config], codes.Code]
    latent: LatentTerm
    beta: Callable[[int, int], float]
    prior: bool
    n: str


def _deterministic(features: int, latent_dim: int, config: Config) -> codes.Code:
    return codes.Deterministic(features, latent_dim)


def _gaussian(features: int, latent_dim: int, config: Config) -> codes.Code:
    return codes.Gaussian(features, latent_dim)


def _gaussian_draws(features: int, latent_dim: int, config: Config) -> codes.Code:
    return codes.Gaussian(features, latent_dim, config.importance_samples)


def _constant_gaussian(features: int, latent_dim: int, config: Config) -> codes.Code:
    return codes.ConstantGaussian(features, latent_dim, config.sigma)


# fmt: off
#              code                latent term         default beta                prior         column N
RAE = Model(   _deterministic,     half_squared_norm,  lambda D, d: 2e-4 * D / d,  prior=False,  n="gaussian")
AE = Model(    _deterministic,     nothing,            lambda D, d: 0.0,           prior=False,  n="gaussian")
VAE = Model(   _gaussian,          kl,                 lambda D, d: 0.3,           prior=True,   n="standard-normal")
CV_VAE = Model(_constant_gaussian, kl,                 lambda D, d: 0.03,          prior=True,   n="gaussian")
WAE = Model(   _deterministic,     mmd,                lambda D, d: 0.03 * D,      prior=True,   n="standard-normal")
IWAE = Model(  _gaussian_draws,    log_ratio,          lambda D, d: 0.3,           prior=True,   n="standard-normal")
# fmt: on
