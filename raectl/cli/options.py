"""Options that commands share: one name, one help, one default for each; and how any option is declared."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from raectl import grammars, registry
from raectl.cli import output


def known(kind: str, but: str | None = None) -> str:
    """The registered names of a kind, all but one perhaps, for a help text that cannot drift from them."""
    *most, last = (name for name in registry.names(kind) if name != but)
    return f"{', '.join(most)} or {last}"


def option(help: str, shown: str | bool = True, *flags: str, panel: str, **more: Any) -> Any:
    """An option of a command.

    Arguments:
        help: what it is for.
        shown: its default as the help shows it, where that is not the parameter's.
        flags: how it is typed; by default after the parameter's name.
        panel: the part of the help in which it stands.
        more: as `typer.Option` takes it, such as `metavar` and `min`.
    """
    return typer.Option(*flags, help=help, show_default=shown, rich_help_panel=panel, **more)


data = partial(option, panel="Data")
model = partial(option, panel="Model")
training = partial(option, panel="Training")
run = partial(option, panel="Run")
out = partial(option, panel="Output")

SOURCES = (
    "A folder or zip of images, a .npy or .npz array, IDX files or their folder, a .txt file of strings, one a line, "
    "a .smi file of molecules, or a built-in name: digits, expressions or molecules."
)
_SHARE = "Share of items that may be bad and are skipped; up to 5 always may."
_OUT = (
    "A picture (.png, .jpg, ...), an archive (.npz), or, without a suffix, a directory of one file an item; "
    "of strings a .txt, one a line."
)


def _show_tracebacks(value: bool) -> bool:
    if value:
        output.show_tracebacks = True
    return value


Json = Annotated[bool, out("Print one JSON object on stdout and nothing else.", True, "--json")]
Debug = Annotated[
    bool, out("Show the traceback of an error.", True, "--debug", callback=_show_tracebacks, is_eager=True)
]
ImageSize = Annotated[
    int | None, data("Side of the images in pixels, 8 to 512.", "their own if square and at most 128, else 64")
]
Fit = Annotated[str | None, data("How others become square: pad, crop, stretch.", "crop")]
Range = Annotated[
    str | None,
    data(
        "The values that become 0 and 255; what lies beyond is clipped.",
        "bytes as they are; of wider values decided by all of the data, and said",
        metavar="LO:HI",
    ),
]
Alpha = Annotated[bool | None, data("The fourth channel of an array is alpha.", "off", "--alpha")]
Background = Annotated[
    str | None,
    data(
        "Colour behind transparent pixels and around padded images.",
        "white; black for IDX files and digits",
        metavar="COLOUR",
    ),
]
Grammar = Annotated[
    str | None,
    data(
        f"Grammar of the strings in a text file: {' or '.join(grammars.names())}, or a file of productions.",
        "the data's own",
        metavar="NAME|FILE",
    ),
]
MaxProductions = Annotated[
    int | None,
    data(
        "Productions of the grammar a string, at most; longer ones are skipped.", "one more than the longest string's"
    ),
]
MaxBad = Annotated[float | None, data(_SHARE, "0.01", metavar="SHARE")]
OtherMaxBad = Annotated[float | None, data(_SHARE, "the training's", metavar="SHARE")]
Strict = Annotated[bool | None, data("Stop at the first bad item.", "off", "--strict")]
Source = Annotated[str, data(SOURCES, False, "--data", metavar="SOURCE")]
OptionalSource = Annotated[str | None, data(SOURCES, "the data of the training", "--data", metavar="SOURCE")]
SourceArgument = Annotated[str, typer.Argument(metavar="SOURCE", show_default=False, help=SOURCES)]
Seed = Annotated[int, run("Seed of everything random.", True, "--seed", min=0)]
Device = Annotated[str, run("auto, cpu, cuda, cuda:N or mps.", True, "--device")]
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
