"""The table of models, which differ in code and latent term. A new model is a row and a line in the registry."""

from collections.abc import Callable
from dataclasses import dataclass

from raectl.config import Config
from raectl.model import codes
from raectl.model.latent_terms import LatentTerm, half_squared_norm, kl, log_ratio, mmd, nothing


@dataclass(frozen=True)
class Model:
    """A row of the table."""

    # Builds the code from the number of features, d and the configuration.
    code: Callable[[int, int, Config], codes.Code]
    latent: LatentTerm
    beta: Callable[[int, int], float]  # its default weight, from D (values per item) and d (latent dimensions)
    prior: bool  # whether training makes the codes follow N(0, I), so that samples need no fitted density
    n: str  # the density that column N of the paper's Table 1 samples from


def _deterministic(F: int, d: int, config: Config) -> codes.Code:
    return codes.Deterministic(F, d)


def _gaussian(F: int, d: int, config: Config) -> codes.Code:
    return codes.Gaussian(F, d)


def _importance_gaussian(F: int, d: int, config: Config) -> codes.Code:
    return codes.Gaussian(F, d, config.importance_samples)


def _constant_gaussian(F: int, d: int, config: Config) -> codes.Code:
    return codes.ConstantGaussian(F, d, config.sigma)


# fmt: off
#              code                  latent term         default beta                prior         column N
RAE = Model(   _deterministic,       half_squared_norm,  lambda D, d: 2e-4 * D / d,  prior=False,  n="gaussian")
AE = Model(    _deterministic,       nothing,            lambda D, d: 0.0,           prior=False,  n="gaussian")
VAE = Model(   _gaussian,            kl,                 lambda D, d: 0.3,           prior=True,   n="standard-normal")
CV_VAE = Model(_constant_gaussian,   kl,                 lambda D, d: 0.03,          prior=True,   n="gaussian")
WAE = Model(   _deterministic,       mmd,                lambda D, d: 0.03 * D,      prior=True,   n="standard-normal")
IWAE = Model(  _importance_gaussian, log_ratio,          lambda D, d: 0.3,           prior=True,   n="standard-normal")
# fmt: on
