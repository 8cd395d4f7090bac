"""Check a configuration, and fill in the defaults that depend on the data, the model and the machine."""

from raectl import grammars, registry
from raectl.config import Config, Regularizers
from raectl.data import Dataset, split
from raectl.data.options import RESOLVED
from raectl.device import resolve_device, resolve_precision
from raectl.errors import UsageError
from raectl.modalities.base import Modality, modality_of
from raectl.model import latent_terms
from raectl.model.reconstructions import fill_in, for_modality
from raectl.model.regularizers import Regularizer
from raectl.model.table import Model

_STEPS, _EPOCHS = 2000, (10, 200)  # of a run, at least; epochs, at most as well
_PLATEAU_STEPS, _PLATEAU_EPOCHS = 250, 5
_PATIENCE_STEPS, _PATIENCE_EPOCHS = 1000, 20
_FEW_ITEMS = 5000  # for which a narrow net is wide enough
_SEEN_OFTEN, _FEW_IMAGES = 40, 10_000  # epochs of fewer images, in which they are learned by heart
_ROUNDING = 1e-6  # of K times 1 / K
_SMALL = 16  # pixels; there a shift by one changes more than there is to learn


def resolve(config: Config, dataset: Dataset, is_continued: bool = False) -> Config:
    """Fill in the options whose defaults depend on the data, the model or the machine.

    Arguments:
        is_continued: whether the weights at the start are those of another run, so that half the steps will do.

    Raises:
        UsageError: a regularizer or the reconstruction term does not take its weight or an option; the device or the
            precision is not available; an option is for data of another kind.
    """
    dataset.refuse_unused(config)
    modality = modality_of(dataset.modality, dataset.options)
    check_sharpen(config, modality)
    item_shape = modality.item_shape(dataset.items.shape[1:])
    train, _ = split(len(dataset), config.val_fraction, config.seed, config.fold)
    latent_dim = config.latent_dim or modality.default_latent_dim(item_shape)
    model: Model = registry.resolve("model", config.model)
    data_dim = modality.data_dim(item_shape)
    beta = modality.default_betas(latent_dim).get(config.model, model.beta(data_dim, latent_dim))
    device = resolve_device(config.device)
    batch_size = config.batch_size or min(100, max(16, len(train) // 20))
    batches = max(1, min(-(-len(train) // batch_size), len(train) // 2))
    steps = _STEPS // 2 if is_continued else _STEPS
    epochs = config.epochs or max(_EPOCHS[0], min(_EPOCHS[1], -(-steps // batches)))
    plateau_patience = config.plateau_patience or max(_PLATEAU_EPOCHS, -(-_PLATEAU_STEPS // batches))
    patience = max(_PATIENCE_EPOCHS, -(-_PATIENCE_STEPS // batches)) if config.val_fraction else 0
    return config.replace(
        latent_dim=latent_dim,
        beta=beta if config.beta is None else config.beta,
        reconstruction=for_modality(config.reconstruction, modality),
        arch=config.arch or modality.default_architecture(item_shape),
        reg=resolve_regularizers(config.reg, data_dim, latent_dim),
        **{name: getattr(dataset.options, name) for name in RESOLVED},
        width=config.width or (16 if len(train) < _FEW_ITEMS else 32),
        batch_size=batch_size,
        epochs=epochs,
        plateau_patience=plateau_patience,
        patience=patience if config.patience is None else config.patience,
        augment=_augment(config.augment, modality, item_shape, epochs, len(train)),
        device=device,
        precision=resolve_precision(config.precision, device),
    )


def _augment(asked: str, modality: Modality, item_shape: tuple[int, ...], epochs: int, n: int) -> str:
    """The augmentations of a run; `auto` spares one that is short, or has many images, and overfits little."""
    if asked not in ("off", "auto") and not modality.can_be_augmented:
        raise UsageError(f"--augment {asked} is for images, and these are others", "omit --augment")
    if asked != "auto":
        return asked
    if not modality.can_be_augmented or epochs < _SEEN_OFTEN or n >= _FEW_IMAGES:
        return "off"
    return "flip" if min(item_shape[1:]) < _SMALL else "flip,shift"


def check(config: Config) -> None:
    """Raise a `UsageError` if options are wrong, without reading data."""
    resolve_regularizers(config.reg, 1, 1)
    if config.reconstruction is not None:
        fill_in(config.reconstruction)
    resolve_precision(config.precision, resolve_device(config.device))
    check_sharpen(config)
    if config.fold and (config.fold + 1) * config.val_fraction > 1 + _ROUNDING:
        raise UsageError(
            f"fold {config.fold} of parts of {config.val_fraction:g} does not exist", "the first one is fold 0"
        )
    if config.grammar is not None:
        grammars.read(config.grammar)
    row: Model = registry.resolve("model", config.model)
    if config.beta and row.latent is latent_terms.nothing:
        raise UsageError(
            f"--beta {config.beta:g} has no effect: the model {config.model} has no latent term", "--model rae has one"
        )
    if config.beta == 0 and row.latent is latent_terms.log_ratio:
        raise UsageError(
            f"--beta 0 leaves the model {config.model} no likelihood: its variance is beta / 2",
            "a --beta above 0, or another --model",
        )


def check_sharpen(config: Config, modality: Modality | None = None) -> None:
    """Raise a `UsageError` if a second phase is asked for and cannot be."""
    if not config.sharpen:
        return
    if not config.val_fraction:
        raise UsageError("--sharpen needs held-out images, to see when it must end", "--val-fraction 0.1")
    if modality is not None and not modality.can_be_sharpened:
        raise UsageError("--sharpen is for images, and these are others", "omit --sharpen")


def resolve_regularizers(reg: Regularizers, data_dim: int, latent_dim: int) -> Regularizers:
    """Regularizers with the defaults of weights and options filled in; a `UsageError` if one does not take them."""
    resolved: Regularizers = {}
    for name, given in reg.items():
        kind: type[Regularizer] = registry.resolve("regularizer", name)
        if "weight" in given and "weight" not in kind.options:
            raise UsageError(f"--reg {name} takes no weight: it is a constraint, not a penalty", f"--reg {name}")
        resolved[name] = kind.checked(given, f"--reg {name}")
        if "weight" in kind.options and resolved[name]["weight"] is None:
            resolved[name]["weight"] = kind.default_weight(data_dim, latent_dim)
    return resolved
