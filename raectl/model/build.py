"""Build the model, its penalties and the loss from a resolved configuration."""

import torch
from torch import nn

from raectl import registry, rng
from raectl.config import Config
from raectl.modalities.base import Modality
from raectl.model.autoencoder import Autoencoder
from raectl.model.levels import SharpDecoder
from raectl.model.loss import Loss
from raectl.model.reconstructions import Reconstruction, for_modality
from raectl.model.regularizers import Regularizer
from raectl.model.table import Model


def make_regularizer(name: str, given: dict[str, object]) -> Regularizer:
    """A regularizer from its name and options; a `UsageError` if one is unknown or wrong."""
    kind: type[Regularizer] = registry.resolve("regularizer", name)
    return kind(**kind.checked(given, f"--reg {name}"))


Penalties = dict[str, tuple[Regularizer, float]]


def build(config: Config, item_shape: tuple[int, ...]) -> tuple[Autoencoder, Penalties]:
    """The model, initialized from the configuration's seed, and its penalties with their weights."""
    row: Model = registry.resolve("model", config.model)
    assert config.arch and config.latent_dim and config.width, "the configuration must be resolved"
    regularizers = {name: make_regularizer(name, given) for name, given in config.reg.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.torch_generator(config.seed, "weights", 0).initial_seed())
        pair = registry.resolve("architecture", config.arch)(
            item_shape, config.latent_dim, config.width, config.bn_momentum
        )
        code = row.code(pair.features, config.latent_dim, config)
        model = Autoencoder(pair, code, config.latent_dim, list(regularizers.values()))
    weighted = {name: r for name, r in regularizers.items() if "weight" in config.reg[name] and r.penalizes}
    return model, {name: (r, r.settings["weight"]) for name, r in weighted.items()}


def constraints(config: Config) -> list[Regularizer]:
    """The regularizers that reparametrize the decoder and have no penalty, such as spectral normalization."""
    return [make_regularizer(name, given) for name, given in config.reg.items() if "weight" not in given]


def build_decoder(config: Config, item_shape: tuple[int, ...]) -> nn.Module:
    """The decoder alone, of a model without penalties: its parameters and buffers are those of `build`'s."""
    reg = {name: given for name, given in config.reg.items() if "weight" not in given}
    return build(config.replace(reg=reg), item_shape)[0].decoder


def build_sharp_decoder(config: Config, item_shape: tuple[int, ...]) -> SharpDecoder:
    """Such a decoder of images (C, H, W) with black and white points."""
    return SharpDecoder(build_decoder(config, item_shape), item_shape[0])


def build_loss(config: Config, modality: Modality, penalties: Penalties) -> Loss:
    """The loss of a resolved configuration; a `UsageError` if the reconstruction term is not for these items."""
    row: Model = registry.resolve("model", config.model)
    assert config.beta is not None, "the configuration must be resolved"
    options = for_modality(config.reconstruction, modality)
    term: Reconstruction = registry.resolve("reconstruction", options.pop("name"))(modality, **options)
    return Loss(term, row.latent, config.beta, penalties)
