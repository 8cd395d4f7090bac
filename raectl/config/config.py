"""The options of a training run: a flat record, checked when it is created, convertible to JSON and TOML.

`None` means the default for the data and the model. Training replaces it by the value (see `raectl.model.resolve`) and
stores the result in the checkpoint directory.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from raectl import registry
from raectl.config.option import Checked, Option, declared, options_of
from raectl.config.size import Size
from raectl.config.text import FLAGS, FORM, WEIGHT, WEIGHTED_FORM, parse
from raectl.errors import RaectlError, UsageError

MOST_CHANNELS = 64
Regularizers = dict[str, dict[str, Any]]
Reconstruction = dict[str, Any]  # {"name": name, option: value}


@dataclass(frozen=True)
class Device(Option[str]):
    """Where to compute."""

    def check(self, value: Any, typed: str) -> str:
        """See `Option.check`."""
        if not isinstance(value, str) or not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
            raise UsageError(f"{typed}{value!r} is none of auto, cpu, cuda, cuda:N, mps", f"{typed}auto")
        return value


@dataclass(frozen=True)
class Terms(Option[Regularizers]):
    """Regularizers in any form that `Config.reg` takes."""

    def check(self, value: Any, typed: str) -> Regularizers:
        """Convert them to {name: {option: value}}, without `none`; the components check their options."""
        if isinstance(value, str):
            value = [value]
        if isinstance(value, Sequence):
            pairs = [parse(self.component, str(item)) for item in value]
            value = dict(pairs)
            if len(value) < len(pairs):
                raise UsageError(f"{typed}is given twice for one of {', '.join(value)}", "one weight for each")
        if not isinstance(value, Mapping):
            raise _names_none(value, self.component)
        result: Regularizers = {}
        for name, given in value.items():
            registry.check(self.component, str(name))
            options = dict(given) if isinstance(given, Mapping) else {} if given is None else {"weight": given}
            if WEIGHT.check(options.get("weight"), f"{typed}{name}=") is None:
                options.pop("weight", None)
            if name != "none":
                result[str(name)] = options
        return result


@dataclass(frozen=True)
class Term(Option[Reconstruction | None]):
    """A reconstruction term in any form that `Config.reconstruction` takes."""

    def check(self, value: Any, typed: str) -> Reconstruction | None:
        """Convert it to {"name": name, option: value}; the component checks its options."""
        if isinstance(value, str):
            name, options = parse(self.component, value)
            return {"name": name, **options}
        if value is None:
            return None
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            raise _names_none(value, self.component)
        registry.check(self.component, value["name"])
        return dict(value)


@dataclass(frozen=True)
class Augmentations(Option[str]):
    """Augmentations of the training images: `off`, `auto`, or names."""

    def check(self, value: Any, typed: str) -> str:
        """Return the names in the order in which they are applied, separated by commas, or the word."""
        known = registry.names(self.component)
        given = [name.strip() for name in value.split(",")] if isinstance(value, str) else []
        if given in (["off"], ["auto"]):
            return given[0]
        wrong = next((name for name in given if name not in known), None)
        if wrong is not None or not given or len(set(given)) < len(given):
            shown = repr(value) if wrong is None or wrong == value else f"{value}: {wrong!r}"
            raise UsageError(
                f"{typed}{shown} is none of off, auto, {', '.join(known)}, or several", f"{typed}flip,shift"
            )
        return ",".join(name for name in known if name in given)


@dataclass(frozen=True)
class Bands(Option[str | None]):
    """Channels to show: one, or three for red, green and blue."""

    def check(self, value: Any, typed: str) -> str | None:
        """Return the numbers, from 1, separated by commas."""
        if value is None:
            return None
        parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else []
        if len(parts) not in (1, 3) or not all(part.isascii() and part.isdecimal() for part in parts):
            raise UsageError(f"{typed}{value!r} is neither one number of a channel nor three", f"{typed}3,2,1")
        numbers = [*map(int, parts)]
        if not all(1 <= number <= MOST_CHANNELS for number in numbers):
            raise UsageError(f"{typed}{value} is out of range: channels are 1 to {MOST_CHANNELS}", f"{typed}3,2,1")
        return ",".join(map(str, numbers))


def _names_none(value: Any, component: str) -> UsageError:
    known = f"known: {', '.join(registry.names(component))}"
    return UsageError(f"{FLAGS[component]} {value!r} names no {component}", known)


_data, _model, _training = (partial(declared, panel=panel) for panel in ("Data", "Model", "Training"))
_of_file = declared  # of TOML files and Python only


def bands() -> Any:
    """The option of the channels that pictures show."""
    return _data(
        None,
        "Channels that pictures and features show as red, green and blue, or one as grey; numbered from 1.",
        Bands,
        shown="the first three; of two the first",
        metavar="N[,N,N]",
    )


@dataclass(frozen=True)
class SourceOptions(Checked):
    """How a source's items are brought to one shape. `None` leaves the choice to the source."""

    image_size: int | str | None = _data(
        None,
        "Height and width of the images in pixels: N for a square, or HxW, such as 96x64.",
        Size,
        low=8,
        high=512,
        shown="their own if all share one of at most 128 a side, else 64",
        metavar="N|HxW",
    )
    fit: str = _data(
        "crop", "How others are brought to that shape: pad, crop or stretch.", choices=("pad", "crop", "stretch")
    )
    background: str | None = _data(
        None,
        "Colour (a name or #rrggbb) behind transparent pixels and around padded images.",
        shown="white; black for IDX files and digits",
        metavar="COLOUR",
    )
    range: str | None = _data(
        None,
        "The values that become 0 and 255; what lies beyond is clipped.",
        shown="bytes as they are; of wider values decided by all of the data, and said",
        metavar="LO:HI",
    )
    alpha: bool = _data(False, "The fourth channel of an array is alpha.")
    frames: str = _data(
        "first", "Which frames of image files become items: of stacks (TIFF) and animations.", choices=("first", "all")
    )
    grammar: str | None = _data(
        None,
        "Grammar of the strings in a text file: expressions or smiles, or a file of productions.",
        shown="the data's own",
        metavar="NAME|FILE",
    )
    max_productions: int | None = _data(
        None,
        "Productions of the grammar a string, at most; longer ones are skipped.",
        low=1,
        high=4096,
        shown="one more than the longest string's",
    )
    max_bad: float = _data(
        0.01, "Share of items that may be bad and are skipped; up to 5 always may.", low=0, high=1, metavar="SHARE"
    )
    strict: bool = _data(False, "Stop at the first bad item.")


@dataclass(frozen=True, kw_only=True)
class Config(SourceOptions):
    """The options of a training run. Each is declared here, with its default, its range and what it is for.

    Arguments:
        reg: regularizers of the decoder: a name, `NAME=WEIGHT,KEY=VALUE,...`, several of these, `{name: weight}`, or
            `{name: {"weight": w, key: value}}`.
        reconstruction: the reconstruction term: `NAME`, `NAME,KEY=VALUE,...`, or `{"name": NAME, key: value}`.

    Raises:
        UsageError: an option's type, range or name is wrong.

    Example:
        >>> Config(reg="tikhonov").reg
        {'tikhonov': {}}
    """

    bands: str | None = bands()
    val_fraction: float = _data(0.1, "Share held out for validation.", low=0, high=0.9)
    fold: int = _of_file(0, "Which part of that size is held out, for cross-validation.", low=0, high=1000)
    model: str = _model("rae", f"{registry.known('model')}.", component="model")
    reg: Any = _model(  # noqa: RUF009  # converted to `Regularizers`
        {},
        f"Regularizer of the decoder, repeatable: {registry.known('regularizer')}; NAME,help lists its keys.",
        Terms,
        component="regularizer",
        shown="none",
        metavar=WEIGHTED_FORM,
    )
    reconstruction: Any = _model(  # noqa: RUF009  # converted to `Reconstruction | None`
        None,
        f"Reconstruction term of the loss: {registry.known('reconstruction')}; NAME,help lists its keys. l1 is sharper "
        "for images that are nearly two-valued.",
        Term,
        component="reconstruction",
        shown="l2 for images, cross-entropy for strings",
        metavar=FORM,
    )
    beta: float | None = _model(None, "Weight of the latent term.", low=0.0, high=1e9, shown="the model's")
    sigma: float = _model(0.7, "Standard deviation of the code of cv-vae.", low=1e-6, high=1e3)
    importance_samples: int = _model(5, "Draws of the code an item of iwae.", low=1, high=1000, metavar="K")
    latent_dim: int | None = _model(
        None, "Latent dimensions.", low=1, high=4096, shown="16 for grey images, 64 for colour; 25 or 56 for strings"
    )
    arch: str | None = _model(
        None,
        f"{registry.known('architecture')}.",
        component="architecture",
        shown="linear-conv for images, conv-gru for strings; presets: conv32 or conv64",
    )
    width: int | None = _model(
        None,
        "Filters of the first layer (the paper: 128).",
        low=1,
        high=1024,
        shown="16 below 5,000 training items, else 32",
    )
    bn_momentum: float = _of_file(0.1, "Batch norm's momentum in PyTorch's sense (the paper: 0.01).", low=1e-6, high=1)
    epochs: int | None = _training(
        None,
        "Epochs in all, also when resuming.",
        low=1,
        high=1_000_000,
        shown="as many as make 2,000 steps, 1,000 with --from, from 10 to 200",
    )
    patience: int | None = _training(
        None,
        "Epochs without a better loss after which training ends; 0: it goes on.",
        low=0,
        high=1_000_000,
        shown="as many as make 1,000 steps, at least 20; 0 with nothing held out",
    )
    batch_size: int | None = _training(
        None,
        "Items a step, at most; batch norm needs two.",
        low=2,
        high=100_000,
        shown="a twentieth of all, from 16 to 100",
    )
    augment: str = _training(
        "auto",
        f"Changes of training images at random: off, auto, or some of {registry.known('augmentation')}, as flip,shift; "
        "auto is flip,shift for 40 epochs or more of fewer than 10,000 images, and flip alone below 16 pixels.",
        Augmentations,
        component="augmentation",
        metavar="off|auto|LIST",
    )
    sharpen: bool = _training(False, "A second phase, in which a critic sharpens the decoder; see raectl sharpen.")
    optimizer: str = _training(
        "muon", "muon (for kernels; Adam for all else) or adam.", component="optimizer", metavar="NAME"
    )
    average: float = _training(
        0.99,
        "Decay of the average of the weights, which is validated and kept; 0: the last weights.",
        low=0,
        high=0.99999,
    )
    lr: float = _training(1e-3, "Learning rate: Adam's; Muon's is 10 times as large.", low=1e-12, high=10)
    seed: int = _training(0, "Seed of everything random.", low=0, high=2**63 - 1)
    device: str = _training("auto", "auto, cpu, cuda, cuda:N or mps.", Device)
    precision: str = _training("auto", "auto (bf16 where fast), fp32 or bf16.", choices=("auto", "fp32", "bf16"))
    plateau: str = _of_file("relative", "What plateau_gain is.", choices=("relative", "absolute"))
    plateau_gain: float = _of_file(1e-4, "The least gain in validation loss that counts.", low=0, high=1e6)
    plateau_factor: float = _of_file(0.5, "Factor of lr after plateau_patience epochs without it.", low=1e-6, high=1)
    plateau_patience: int | None = _of_file(
        None, "Epochs without a gain until then.", low=1, high=1_000_000, shown="as many as make 250 steps, at least 5"
    )
    min_lr: float = _of_file(1e-8, "The least learning rate.", low=0, high=10)

    @property
    def is_resolved(self) -> bool:
        """Whether no option is left to the data or the model."""
        left = ("latent_dim", "arch", "width", "beta", "batch_size", "epochs", "patience", "plateau_patience")
        return None not in (getattr(self, name) for name in left)

    def replace(self, **changes: Any) -> "Config":
        """A copy with some options changed."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """The options as a dictionary of JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "the configuration") -> "Config":
        """The inverse of `to_dict`; options may be missing, and names may have `-` for `_`.

        Raises:
            UsageError: a name is unknown, or a value is wrong.
        """
        values = {name.replace("-", "_"): value for name, value in values.items()}
        known = options_of(cls)
        for name in values:
            if name not in known:
                raise UsageError(f"{where} has an unknown option {name!r}", f"known: {', '.join(known)}")
        return cls(**values)


def as_typed(name: str) -> str:
    """An option's name on the command line, or in a TOML file if it is not an option of the command line.

    Example:
        >>> as_typed("latent_dim"), as_typed("plateau")
        ('--latent-dim', 'plateau')
    """
    return options_of(Config)[name].typed(name)


def read_toml(path: Path) -> dict[str, Any]:
    """The options in a TOML file, unchecked; they may include `data` and `out`.

    Raises:
        RaectlError: the file cannot be read, or is not valid TOML.
    """
    import tomllib

    try:
        return {name.replace("-", "_"): value for name, value in tomllib.loads(path.read_text("utf-8")).items()}
    except OSError as error:
        raise RaectlError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise RaectlError(f"{path} is not valid TOML: {error}") from error
