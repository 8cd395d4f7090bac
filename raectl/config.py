"""The options of a training run: a flat record, checked when it is created, convertible to JSON and TOML.

`None` means the default for the data and the model. Training replaces it by the value (see `raectl.model.resolve`) and
stores the result in the checkpoint directory.
"""

import dataclasses
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raectl import registry
from raectl.errors import RaectlError, UsageError

Regularizers = dict[str, dict[str, Any]]
Reconstruction = dict[str, Any]  # {"name": name, option: value}
_CHOICES = {
    "fit": ("pad", "crop", "stretch"),
    "precision": ("auto", "fp32", "bf16"),
    "plateau": ("relative", "absolute"),
}
_RANGES = {  # option: (smallest, largest)
    "beta": (0.0, 1e9),
    "sigma": (1e-6, 1e3),
    "importance_samples": (1, 1000),
    "latent_dim": (1, 4096),
    "width": (1, 1024),
    "image_size": (8, 512),
    "max_productions": (1, 4096),
    "bn_momentum": (1e-6, 1.0),
    "epochs": (1, 1_000_000),
    "batch_size": (2, 100_000),  # batch norm needs two
    "lr": (1e-12, 10.0),
    "seed": (0, 2**63 - 1),
    "val_fraction": (0.0, 0.9),
    "max_bad": (0.0, 1.0),
    "plateau_gain": (0.0, 1e6),
    "plateau_factor": (1e-6, 1.0),
    "plateau_patience": (1, 1_000_000),
    "min_lr": (0.0, 10.0),
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """The options of a training run.

    Arguments:
        model: a row of the model table: `rae`, `ae`, `vae`, `cv-vae`, `wae`, `iwae`.
        reg: regularizers of the decoder: a name, names, `{name: weight}`, or `{name: {"weight": w, option: value}}`.
        reconstruction: the reconstruction term: `NAME` or `NAME,OPTION=VALUE,...`, or `{"name": NAME, OPTION: VALUE}`;
            None for the modality's default.
        beta: weight of the latent term; None for the model's default.
        sigma: standard deviation of the code of `cv-vae`; unused by other models.
        importance_samples: K, samples of the code of `iwae` per item; unused by other models.
        latent_dim: d; None for the modality's default (16 for grey images, 64 for colour, 25 or 56 for strings).
        arch: encoder and decoder pair; None for the modality's default.
        width: filters F of the first encoder layer (the paper: 128); see `raectl.model.architectures` for others.
        bn_momentum: batch norm's momentum as defined by PyTorch (the paper's code: 0.01).
        image_size, fit, range, alpha, background: what becomes of images, see `raectl.data.DataOptions`.
        max_bad, strict: handling of bad items, see there.
        grammar, max_productions: of strings, see there; a grammar is stored as its text.
        epochs: the total, also when resuming.
        batch_size: items per step at most; None for a twentieth of the training items, from 16 to 100.
        lr: initial learning rate.
        seed: of all random numbers.
        sharpen: whether a second phase follows, see `raectl.sharpen`.
        device, precision: `auto` is replaced by the device and precision used.
        val_fraction: share of the data held out for validation.
        plateau, plateau_gain: least improvement of the validation loss, `relative` to the best or `absolute`.
        plateau_factor, plateau_patience, min_lr: the learning rate is multiplied by this factor after so many epochs
            without that improvement, down to a minimum.

    Raises:
        UsageError: an option's type, range or name is wrong.

    Example:
        >>> Config(reg="tikhonov").reg
        {'tikhonov': {}}
    """

    model: str = "rae"
    reg: Any = field(default_factory=dict)  # converted to `Regularizers`
    reconstruction: Any = None  # converted to `Reconstruction | None`
    beta: float | None = None
    sigma: float = 0.7
    importance_samples: int = 5
    latent_dim: int | None = None
    arch: str | None = None
    width: int = 32
    bn_momentum: float = 0.1
    image_size: int | None = None
    fit: str = "crop"
    range: str | None = None
    alpha: bool = False
    background: str | None = None
    max_bad: float = 0.01
    strict: bool = False
    grammar: str | None = None
    max_productions: int | None = None
    epochs: int = 50
    batch_size: int | None = None
    lr: float = 1e-3
    seed: int = 0
    sharpen: bool = False
    device: str = "auto"
    precision: str = "auto"
    val_fraction: float = 0.1
    plateau: str = "relative"
    plateau_gain: float = 1e-4
    plateau_factor: float = 0.5
    plateau_patience: int = 5
    min_lr: float = 1e-8

    def __post_init__(self) -> None:
        object.__setattr__(self, "reg", _regularizers(self.reg))
        object.__setattr__(self, "reconstruction", _reconstruction(self.reconstruction))
        for name, expected in typing.get_type_hints(type(self)).items():
            if name not in ("reg", "reconstruction"):
                object.__setattr__(self, name, _typed(name, getattr(self, name), expected))
        registry.check("model", self.model)
        if self.arch is not None:
            registry.check("architecture", self.arch)
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise UsageError(f"{option(name)} {getattr(self, name)!r} is none of {', '.join(choices)}")
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise UsageError(f"--device {self.device!r} is none of auto, cpu, cuda, cuda:N, mps")
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise UsageError(f"{option(name)} {value} is out of range: {low} to {high}")

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
        known = [f.name for f in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                raise UsageError(f"{where} has an unknown option {name!r}", f"known: {', '.join(known)}")
        return cls(**values)


# Options for TOML files and Python only, not for the command line.
_FILE_ONLY = ("bn_momentum", "plateau", "plateau_gain", "plateau_factor", "plateau_patience", "min_lr")
REGULARIZER_OPTIONS = {  # name on the command line or in a TOML file: (regularizer, its option)
    "gp_form": ("gradient-penalty", "form"),
    "gp_part": ("gradient-penalty", "part"),
    "sn_view": ("spectral-norm", "view"),
    "sn_encoder": ("spectral-norm", "encoder"),
}


def option(name: str) -> str:
    """An option's name on the command line, or in a TOML file if it is not an option of the command line.

    Example:
        >>> option("latent_dim"), option("plateau")
        ('--latent-dim', 'plateau')
    """
    return name if name in _FILE_ONLY else "--" + name.replace("_", "-")


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


def parse_regularizer(text: str) -> tuple[str, dict[str, Any]]:
    """`NAME` or `NAME=WEIGHT`, as given to `--reg`.

    Example:
        >>> parse_regularizer("tikhonov=1e-4")
        ('tikhonov', {'weight': 0.0001})
    """
    name, equals, weight = text.partition("=")
    registry.check("regularizer", name)
    if not equals:
        return name, {}
    try:
        return name, {"weight": float(weight)}
    except ValueError:
        raise UsageError(f"--reg {text!r}: the weight {weight!r} is no number", f"--reg {name}=1e-4") from None


def parse_reconstruction(text: str) -> Reconstruction:
    """`NAME` or `NAME,OPTION=VALUE,...`, as given to `--reconstruction`.

    Example:
        >>> parse_reconstruction("l1,start=0,length=200")
        {'name': 'l1', 'start': 0, 'length': 200}
    """
    name, *parts = text.split(",")
    result: Reconstruction = {"name": registry.check("reconstruction", name)}
    for part in parts:
        key, _, value = part.strip().partition("=")
        try:
            number = float(value)
        except ValueError:
            hint = f"--reconstruction {name},OPTION=NUMBER,..."
            raise UsageError(f"--reconstruction {text!r}: {part!r} is no option with a number", hint) from None
        if key in result:
            raise UsageError(f"--reconstruction {text!r} says {key} twice", "one value for each")
        result[key] = int(number) if number.is_integer() else number
    return result


def reconstruction_text(term: Reconstruction) -> str:
    """The inverse of `parse_reconstruction`.

    Example:
        >>> reconstruction_text({"name": "l1", "start": 0})
        'l1,start=0'
    """
    return ",".join([term["name"], *(f"{key}={value}" for key, value in term.items() if key != "name")])


def _reconstruction(given: Any) -> Reconstruction | None:
    """A reconstruction term in any accepted form (see `Config.reconstruction`) => {"name": name, option: value}."""
    if given is None:
        return None
    if isinstance(given, str):
        return parse_reconstruction(given)
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        known = f"known: {', '.join(registry.names('reconstruction'))}"
        raise UsageError(f"--reconstruction {given!r} does not name a reconstruction term", known)
    registry.check("reconstruction", given["name"])
    for key, value in given.items():
        if key != "name" and type(value) not in (int, float):
            raise UsageError(f"--reconstruction {given['name']}: {key} {value!r} is no number", f"{key} = 0")
    return dict(given)


def _regularizers(given: Any) -> Regularizers:
    """Regularizers in any accepted form (see `Config.reg`) => {name: {option: value}}, without `none`."""
    if isinstance(given, str):
        given = [given]
    if isinstance(given, Sequence):
        pairs = [parse_regularizer(str(item)) for item in given]
        given = dict(pairs)
        if len(given) < len(pairs):
            raise UsageError(f"--reg is given twice for one of {', '.join(given)}", "one weight for each")
    if not isinstance(given, Mapping):
        known = f"known: {', '.join(registry.names('regularizer'))}"
        raise UsageError(f"--reg {given!r} is not a name of a regularizer", known)
    result: Regularizers = {}
    for name, value in given.items():
        registry.check("regularizer", str(name))
        options = dict(value) if isinstance(value, Mapping) else {} if value is None else {"weight": value}
        weight = options.get("weight", 0.0)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise UsageError(f"--reg {name}={weight}: a weight is a finite number, 0 or above", f"--reg {name}=1e-4")
        if name != "none":
            result[str(name)] = options
    return result


def _typed(name: str, value: Any, expected: Any) -> Any:
    """`value`, if it has the annotated type; an int is converted to a float, nothing else is converted."""
    allowed = typing.get_args(expected) if isinstance(expected, types.UnionType) else (expected,)
    if value is None and type(None) in allowed:
        return None
    if float in allowed and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) not in allowed or (isinstance(value, float) and not math.isfinite(value)):
        kind = next(t.__name__ for t in allowed if t is not type(None))
        raise UsageError(f"{option(name)} {value!r} is no {kind}")
    return value
