"""From a configuration to the parts it names: defaults that depend on the data, the model, the objective."""

import inspect
from dataclasses import asdict

import torch

from raectl import registry
from raectl import rng as noise
from raectl.config import Config, Regularizers
from raectl.data import DataOptions, Dataset
from raectl.data.options import RESOLVED
from raectl.device import resolve_device, resolve_precision
from raectl.errors import UsageError
from raectl.modalities.base import Modality
from raectl.model import latent_terms
from raectl.model.autoencoder import Autoencoder
from raectl.model.loss import Objective
from raectl.model.regularizers import Regularizer
from raectl.model.table import Model


def modality_of(name: str, options: DataOptions | None = None) -> Modality:
    """The modality registered under a name, for data opened with these options.

    Raises:
        RaectlError: the options lack what the modality needs.
    """
    modality: Modality = registry.resolve("modality", name)(**asdict(options or DataOptions()))
    return modality


def resolve(config: Config, dataset: Dataset) -> Config:
    """Fill in every option left to a default of the data, the model or the machine.

    Raises:
        UsageError: a regularizer got a weight that it cannot take, or an option it does not have; the device or the
            precision is not to be had here; an option of the data is for data of another kind.
    """
    dataset.refuse_unused(config)
    modality = modality_of(dataset.modality, dataset.options)
    item_shape = modality.item_shape(dataset.items.shape[1:])
    latent_dim = config.latent_dim or modality.default_latent_dim(item_shape)
    model: Model = registry.resolve("model", config.model)
    data_dim = modality.data_dim(item_shape)
    beta = modality.default_betas(latent_dim).get(config.model, model.beta(data_dim, latent_dim))
    device = resolve_device(config.device)
    return config.replace(
        latent_dim=latent_dim,
        beta=beta if config.beta is None else config.beta,
        arch=config.arch or modality.default_architecture(item_shape),
        reg=resolve_regularizers(config.reg, data_dim, latent_dim),
        **{name: getattr(dataset.options, name) for name in RESOLVED},
        device=device,
        precision=resolve_precision(config.precision, device),
    )


def check(config: Config) -> None:
    """Raise a `UsageError` for whatever is wrong with the options, before any data are read."""
    resolve_regularizers(config.reg, 1, 1)
    resolve_precision(config.precision, resolve_device(config.device))
    row: Model = registry.resolve("model", config.model)
    if config.beta and row.latent is latent_terms.nothing:
        raise UsageError(
            f"--beta {config.beta:g} has no effect: the model {config.model} has no latent term", "rae has"
        )
    if config.beta == 0 and row.latent is latent_terms.log_ratio:
        raise UsageError(
            f"--beta 0 leaves the model {config.model} no likelihood: its variance is beta / 2",
            "a --beta above 0, or another --model",
        )


def resolve_regularizers(reg: Regularizers, data_dim: int, latent_dim: int) -> Regularizers:
    """Regularizers with every weight and option filled in that was left to its default.

    Raises:
        UsageError: one got a weight that it cannot take, or an option that it does not have.
    """
    return {name: _resolve_regularizer(name, given, data_dim, latent_dim) for name, given in reg.items()}


def _resolve_regularizer(name: str, given: dict[str, object], data_dim: int, latent_dim: int) -> dict[str, object]:
    kind = registry.resolve("regularizer", name)
    weight = kind.default_weight(data_dim, latent_dim)
    make_regularizer(name, given)
    if weight is None and given.get("weight") is not None:
        raise UsageError(f"--reg {name} takes no weight: it is a constraint, not a penalty", f"--reg {name}")
    weights = {} if weight is None else {"weight": weight}
    options = {key: parameter.default for key, parameter in inspect.signature(kind).parameters.items()}
    return {**weights, **options, **given}


def make_regularizer(name: str, given: dict[str, object]) -> Regularizer:
    """A regularizer from its name and options, its weight aside."""
    options = {key: value for key, value in given.items() if key != "weight"}
    try:
        regularizer: Regularizer = registry.resolve("regularizer", name)(**options)
    except TypeError:
        raise UsageError(f"the regularizer {name} does not take the options {', '.join(options)}") from None
    return regularizer


Penalties = dict[str, tuple[Regularizer, float]]


def build(config: Config, item_shape: tuple[int, ...]) -> tuple[Autoencoder, Penalties]:
    """The model, its weights drawn from the configuration's seed, and its penalties with their weights.

    The global random state is left as it was.
    """
    row: Model = registry.resolve("model", config.model)
    assert config.arch is not None and config.latent_dim is not None, "the configuration must be resolved"
    regularizers = {name: make_regularizer(name, given) for name, given in config.reg.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(noise.torch_generator(config.seed, "weights", 0).initial_seed())
        pair = registry.resolve("architecture", config.arch)(
            item_shape, config.latent_dim, config.width, config.bn_momentum
        )
        code = row.code(pair.features, config.latent_dim, config)
        model = Autoencoder(pair, code, config.latent_dim, list(regularizers.values()))
    weights = {name: float(given["weight"]) for name, given in config.reg.items() if "weight" in given}
    return model, {name: (regularizers[name], lam) for name, lam in weights.items()}


def outline(config: Config, item_shape: tuple[int, ...]) -> Autoencoder:
    """The model without its numbers: shapes of any size, for next to no memory."""
    with torch.device("meta"):
        return build(config, item_shape)[0]


def build_objective(config: Config, modality: Modality, penalties: Penalties) -> Objective:
    """The objective that a resolved configuration asks for."""
    row: Model = registry.resolve("model", config.model)
    assert config.beta is not None, "the configuration must be resolved"
    return Objective(modality, row.latent, config.beta, penalties)
