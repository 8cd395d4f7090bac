"""Build the model, its penalties and the loss from a resolved configuration."""

import torch

from raectl import registry, rng
from raectl.config import Config
from raectl.errors import UsageError
from raectl.modalities.base import Modality
from raectl.model.autoencoder import Autoencoder
from raectl.model.loss import Loss
from raectl.model.regularizers import Regularizer
from raectl.model.table import Model


def make_regularizer(name: str, given: dict[str, object]) -> Regularizer:
    """A regularizer from its name and options; `weight` among these is ignored."""
    options = {key: value for key, value in given.items() if key != "weight"}
    try:
        regularizer: Regularizer = registry.resolve("regularizer", name)(**options)
    except TypeError:
        raise UsageError(f"the regularizer {name} does not take the options {', '.join(options)}") from None
    return regularizer


Penalties = dict[str, tuple[Regularizer, float]]


def build(config: Config, item_shape: tuple[int, ...]) -> tuple[Autoencoder, Penalties]:
    """The model, initialized from the configuration's seed, and its penalties with their weights."""
    row: Model = registry.resolve("model", config.model)
    assert config.arch is not None and config.latent_dim is not None, "the configuration must be resolved"
    regularizers = {name: make_regularizer(name, given) for name, given in config.reg.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.torch_generator(config.seed, "weights", 0).initial_seed())
        pair = registry.resolve("architecture", config.arch)(
            item_shape, config.latent_dim, config.width, config.bn_momentum
        )
        code = row.code(pair.features, config.latent_dim, config)
        model = Autoencoder(pair, code, config.latent_dim, list(regularizers.values()))
    weights = {name: float(given["weight"]) for name, given in config.reg.items() if "weight" in given}
    return model, {name: (regularizers[name], lam) for name, lam in weights.items()}


def outline(config: Config, item_shape: tuple[int, ...]) -> Autoencoder:
    """The model on the meta device: shapes without memory for the weights."""
    with torch.device("meta"):
        return build(config, item_shape)[0]


def build_loss(config: Config, modality: Modality, penalties: Penalties) -> Loss:
    """The loss of a resolved configuration."""
    row: Model = registry.resolve("model", config.model)
    assert config.beta is not None, "the configuration must be resolved"
    return Loss(modality, row.latent, config.beta, penalties)
