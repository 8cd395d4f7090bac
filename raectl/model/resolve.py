"""Fill in what a configuration leaves to defaults of the data, the model and the machine."""

import inspect

from raectl import grammars, registry
from raectl.config import Config, Regularizers
from raectl.data import Dataset, split
from raectl.data.options import RESOLVED
from raectl.device import resolve_device, resolve_precision
from raectl.errors import UsageError
from raectl.modalities.base import modality_of
from raectl.model import latent_terms
from raectl.model.build import make_regularizer
from raectl.model.table import Model


def resolve(config: Config, dataset: Dataset) -> Config:
    """Fill in every option left to a default of the data, the model or the machine.

    Raises:
        UsageError: a regularizer got a weight that it cannot take, or an option it does not have; the device or the
            precision is not available here; an option of the data is for data of another kind.
    """
    dataset.refuse_unused(config)
    modality = modality_of(dataset.modality, dataset.options)
    item_shape = modality.item_shape(dataset.items.shape[1:])
    train, _ = split(len(dataset), config.val_fraction, config.seed)
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
        batch_size=config.batch_size or min(100, max(16, len(train) // 20)),
        device=device,
        precision=resolve_precision(config.precision, device),
    )


def check(config: Config) -> None:
    """Raise a `UsageError` for whatever is wrong with the options, before any data are read."""
    resolve_regularizers(config.reg, 1, 1)
    resolve_precision(config.precision, resolve_device(config.device))
    if config.grammar is not None:
        grammars.read(config.grammar)
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
