"""Options that commands share: one name, one help, one default for each; and how any option is declared."""

import inspect
import sys
from collections.abc import Callable, Iterator
from functools import partial
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from raectl import registry
from raectl.cli import output
from raectl.config import FLAGS, Config, options_of
from raectl.errors import UsageError

_ARRAYS = (".npz", ".npy", ".tif", ".tiff")
_Command = TypeVar("_Command", bound=Callable[..., None])


def option(help: str, shown: str | bool = True, *flags: str, panel: str, **more: Any) -> Any:
    """An option of a command.

    Arguments:
        shown: its default as the help shows it, where that is not the parameter's.
        flags: how it is typed; by default after the parameter's name.
        panel: the part of the help in which it stands.
        more: as `typer.Option` takes it, such as `metavar` and `min`.
    """
    return typer.Option(*flags, help=help, show_default=shown, rich_help_panel=panel, **more)


def check_bands(bands: str | None, *outs: Path | None) -> None:
    """Raise a `UsageError` if the channels that pictures show are given, and of these files none is a picture.

    A folder is one of pictures.
    """
    written = [out for out in outs if out is not None]
    if bands is not None and all(out.suffix.lower() in _ARRAYS for out in written):
        what = f"on {written[0]}, which takes all channels" if written else "without a picture"
        raise UsageError(f"--bands has no effect {what}", "omit --bands")


data = partial(option, panel="Data")
model = partial(option, panel="Model")
run = partial(option, panel="Run")
out = partial(option, panel="Output")

SOURCES = (
    "A folder or zip of images, a .npy or .npz array, a .tif of several pages, IDX files or their folder, a .txt file "
    "of strings, one a line, a .smi file of molecules, or a built-in name: digits, expressions or molecules."
)
_OUT = (
    "A picture (.png, .jpg, ...), an array in the type and units of the data (.npz, .npy, .tif), or, without a suffix, "
    "a directory of one file an item; of strings a .txt, one a line."
)


def flag(name: str, shown: str | bool | None = None, of: type = Config, **more: Any) -> Any:
    """An option of a command, from its declaration in the record `of`; `shown` and `more` are as for `option`."""
    declared = options_of(of)[name]
    more = {"panel": declared.panel, "metavar": declared.metavar, **more}
    own = "off" if declared.kind is bool else declared.shown
    return option(declared.help, own if shown is None else shown, declared.typed(name), **more)


def flags(kind: type, after: str) -> Callable[[_Command], _Command]:
    """Give a command an option for each that the record `kind` declares for the command line, after one of its own.

    Their values arrive as keyword arguments, None where an option is not typed.
    """

    def with_flags(command: _Command) -> _Command:
        parameters = []
        for own in inspect.signature(command).parameters.values():
            parameters += [] if own.kind is Parameter.VAR_KEYWORD else [own]
            parameters += _parameters(kind) if own.name == after else []
        command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        return command

    return with_flags


def _parameters(kind: type) -> Iterator[Parameter]:
    for name, declared in options_of(kind).items():
        value, more = declared.kind, {}
        if declared.component in FLAGS:
            value = list[str] if value is dict else str
            more = {"callback": component_help(declared.component), "is_eager": True}
        if declared.panel:
            annotation = Annotated[value | None, flag(name, of=kind, **more)]  # type: ignore[valid-type]
            yield Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=annotation)


def component_help(kind: str) -> Callable[[Any], Any]:
    """A callback of an option that names components: `NAME,help` prints the keys of one, and ends the program."""

    def show(given: Any) -> Any:
        for text in [given] if isinstance(given, str) else given or ():
            name, _, rest = text.partition(",")
            if rest.strip() == "help":
                _print_keys(kind, name)
                raise typer.Exit
        return given

    return show


def _print_keys(kind: str, name: str) -> None:
    keys = registry.resolve(kind, name).options
    values = {k: {"values": o.describe(), "default": o.default, "help": o.help} for k, o in keys.items()}
    rows = {k: f"{o.help} {o.describe().capitalize()}; default {o.shown}." for k, o in keys.items()}
    output.emit({kind: name, "keys": values}, rows or {name: "has no keys"}, as_json="--json" in sys.argv)


def _show_tracebacks(value: bool) -> bool:
    if value:
        output.show_tracebacks = True
    return value


Json = Annotated[bool, out("Print one JSON object on stdout and nothing else.", True, "--json")]
Debug = Annotated[
    bool, out("Show the traceback of an error.", True, "--debug", callback=_show_tracebacks, is_eager=True)
]
OtherMaxBad = Annotated[float | None, flag("max_bad", "the training's")]
Source = Annotated[str, data(SOURCES, False, "--data", metavar="SOURCE")]
OptionalSource = Annotated[str | None, data(SOURCES, "the data of the training", "--data", metavar="SOURCE")]
SourceArgument = Annotated[str, typer.Argument(metavar="SOURCE", show_default=False, help=SOURCES)]
Bands = Annotated[str | None, flag("bands", "the training's")]
Seed = Annotated[int, flag("seed", True, panel="Run", min=0)]
Device = Annotated[str, flag("device", True, panel="Run")]
BatchSize = Annotated[int, run("Items made at a time; changes memory, not the items.", True, "--batch-size", min=1)]
Draws = Annotated[
    int | None,
    model(
        "Of strings: decode each sample N times at random and keep the most frequent valid string.",
        "once, to the likeliest",
        min=1,
        metavar="N",
    ),
]
CheckpointDir = Annotated[Path, typer.Argument(metavar="CKPT", help="A checkpoint directory.", show_default=False)]
Out = Annotated[Path, out(_OUT, False, "--out", "-o", metavar="OUT")]
Decoder = Annotated[
    str | None, model("Which decoder makes the items: plain or sharp.", "sharp where there is one", "--decoder")
]
DensityName = Annotated[
    str | None,
    model(
        "A fitted density's name, or its kind if only one has it.", "the last one fitted", "--density", metavar="NAME"
    ),
]
