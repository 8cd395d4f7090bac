"""Which configuration a resumed run goes on with: the stored one, and whether what was asked for agrees with it."""

from typing import Any

from raectl.build import make_regularizer, modality_of, resolve_regularizers
from raectl.config import Config, option
from raectl.device import has_bf16, resolve_device
from raectl.directory import Directory
from raectl.errors import UsageError
from raectl.layout import Layout

_MAY_CHANGE = ("epochs", "device", "max_bad", "strict")


def resumed(directory: Directory, given: dict[str, Any]) -> Config:
    """The stored configuration with the options that resuming may change.

    Arguments:
        given: the options asked for.

    Raises:
        RaectlError: the stored configuration and the training state do not belong together.
        UsageError: another option contradicts the stored one, or the hardware lacks the stored device or precision.
    """
    config, data, _ = directory.read_config()
    Layout.of(directory, config, data).require_training()
    wanted = Config.from_dict({**config.to_dict(), **given})
    modality = modality_of(data.modality, data.options)
    data_dim = modality.data_dim(modality.item_shape(data.shape))
    assert config.latent_dim is not None, "stored configurations are resolved"
    reg = resolve_regularizers(wanted.reg, data_dim, config.latent_dim)
    wanted = wanted.replace(reg={name: _without_defaults(name, reg[name]) for name in reg})
    stored = config.replace(reg={name: _without_defaults(name, config.reg[name]) for name in config.reg})
    for name, asked in given.items():
        if name in _MAY_CHANGE or asked in (None, "auto"):
            continue
        if getattr(wanted, name) != getattr(stored, name):
            raise UsageError(
                f"{option(name)} differs from the {getattr(stored, name)!r} with which {directory.path} was begun",
                f"a resumed run keeps its options; only {', '.join(map(option, _MAY_CHANGE))} may change",
            )
    device = resolve_device(given.get("device") or config.device)
    if config.precision == "bf16" and not has_bf16(device):
        raise UsageError(
            f"{directory.path} was begun with --precision bf16, which is not to be had on this {device}",
            "resume it where it is, or train anew with --precision fp32",
        )
    kept = {name: getattr(wanted, name) for name in _MAY_CHANGE}
    return config.replace(**{**kept, "device": device})


def _without_defaults(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """A regularizer's options less those that say what is the case anyway, so that two can be compared."""
    regularizer = make_regularizer(name, {})
    return {key: value for key, value in given.items() if key == "weight" or getattr(regularizer, key, None) != value}
