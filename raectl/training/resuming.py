"""The configuration of a resumed run: the stored one, if the options given do not contradict it."""

from collections.abc import Iterator
from typing import Any

from raectl import grammars
from raectl.checkpoint.contents import outline
from raectl.checkpoint.directory import Directory
from raectl.config import Config, Reconstruction, as_typed, text_of
from raectl.device import has_bf16, resolve_device
from raectl.errors import UsageError
from raectl.modalities.base import modality_of
from raectl.model.build import build, build_loss
from raectl.model.reconstructions import fill_in, for_modality
from raectl.model.resolve import check_sharpen, resolve_regularizers
from raectl.storage.arrays import read_header
from raectl.training.state import Position, TrainingState

_MAY_CHANGE = ("epochs", "patience", "device", "sharpen", "max_bad", "strict", "bands")


def resumed(directory: Directory, given: dict[str, Any]) -> Config:
    """The stored configuration with the options that resuming may change.

    Arguments:
        given: options that were typed; other options of a regularizer or of the reconstruction term stay as stored.

    Raises:
        RaectlError: the stored configuration and the training state do not belong together.
        UsageError: another option contradicts the stored one, or the hardware lacks the stored device or precision.
    """
    given = {name: value for name, value in given.items() if value is not None}
    record = directory.read_config()
    config, data = record.resolved, record.data
    item_shape, (model, penalties) = outline(directory, record, build)
    modality = modality_of(data.modality, data.options)
    terms = build_loss(config, modality, penalties).terms
    read_header(directory.training, Position, TrainingState.layout_of(config, model, len(terms)))
    if given.get("grammar") is not None:
        given = {**given, "grammar": grammars.canonical(given["grammar"])}
    wanted = Config.from_dict({**config.to_dict(), **given})
    data_dim = modality.data_dim(item_shape)
    assert config.latent_dim is not None, "stored configurations are resolved"
    stored = config.replace(
        reg=resolve_regularizers(config.reg, data_dim, config.latent_dim),
        reconstruction=for_modality(config.reconstruction, modality),
    )
    merged = {name: {**stored.reg.get(name, {}), **asked} for name, asked in wanted.reg.items()}
    wanted = wanted.replace(
        reg=resolve_regularizers(merged, data_dim, config.latent_dim),
        reconstruction=_merged_term(wanted.reconstruction, stored.reconstruction),
    )
    for typed, was in _differences(wanted, stored, given):
        raise UsageError(
            f"{typed} differs from the {was} with which {directory.path} was begun",
            f"a resumed run keeps its options; only {', '.join(map(as_typed, _MAY_CHANGE))} may change",
        )
    device = resolve_device(given.get("device") or config.device)
    if config.precision == "bf16" and not has_bf16(device):
        raise UsageError(
            f"{directory.path} was begun with --precision bf16, which is not available on this {device}",
            "resume it where it is, or train anew with --precision fp32",
        )
    kept = {name: getattr(wanted, name) for name in _MAY_CHANGE}
    result = config.replace(**{**kept, "device": device})
    check_sharpen(result, modality)
    return result


def _merged_term(asked: Reconstruction | None, stored: Reconstruction) -> Reconstruction:
    """The reconstruction term that is asked for; its options that are not typed stay as stored."""
    same = asked is None or asked["name"] == stored["name"]
    return fill_in({**(stored if same else {}), **(asked or {})})


def _differences(wanted: Config, stored: Config, given: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Options, as they are typed, that are not as they were, and what they were."""
    for name, asked in given.items():
        is_now, was = getattr(wanted, name), getattr(stored, name)
        if name in _MAY_CHANGE or asked in (None, "auto") or is_now == was:
            continue
        if name == "reg":
            was = " and ".join(text_of(term, **options) for term, options in was.items()) or "none"
        elif name == "reconstruction":
            was = text_of(**was)
        else:
            was = repr(was)
        yield as_typed(name), was
