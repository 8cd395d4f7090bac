"""Options that commands share: one name, one help, one default for each."""

from pathlib import Path
from typing import Annotated

import typer

from raectl import grammars, registry
from raectl.cli import output


def known(kind: str) -> str:
    """The registered names of a kind, for a help text that cannot drift from them."""
    *most, last = registry.names(kind)
    return f"{', '.join(most)} or {last}"


SOURCES = (
    "A folder or zip of images, a .npy or .npz array, IDX files or their folder, a .txt file of strings, one a line, "
    "a .smi file of molecules, or a built-in name: digits, expressions or molecules."
)
DATA, MODEL, TRAINING, RUN, OUTPUT = "Data", "Model", "Training", "Run", "Output"


def _show_tracebacks(value: bool) -> bool:
    if value:
        output.show_tracebacks = True
    return value


Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.", rich_help_panel=OUTPUT)
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug",
        help="Show the traceback of an error.",
        rich_help_panel=OUTPUT,
        callback=_show_tracebacks,
        is_eager=True,
    ),
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        show_default="their own if square and at most 128, else 64",
        rich_help_panel=DATA,
        help="Side of the images in pixels, 8 to 512.",
    ),
]
Fit = Annotated[
    str | None,
    typer.Option(show_default="crop", rich_help_panel=DATA, help="How others become square: pad, crop, stretch."),
]
Background = Annotated[
    str | None,
    typer.Option(
        metavar="COLOUR",
        show_default="white; black for IDX files and digits",
        rich_help_panel=DATA,
        help="Colour behind transparent pixels and around padded images.",
    ),
]
Grammar = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        show_default="the data's own",
        rich_help_panel=DATA,
        help=f"Grammar of the strings in a text file: {' or '.join(grammars.names())}, or a file of productions.",
    ),
]
MaxProductions = Annotated[
    int | None,
    typer.Option(
        show_default="one more than the longest string's",
        rich_help_panel=DATA,
        help="Rules of the grammar a string, at most; longer ones are skipped.",
    ),
]
_SHARE = "Share of items that may be bad and are skipped; up to 5 always may."
MaxBad = Annotated[float | None, typer.Option(metavar="SHARE", show_default="0.01", rich_help_panel=DATA, help=_SHARE)]
OtherMaxBad = Annotated[
    float | None, typer.Option(metavar="SHARE", show_default="the training's", rich_help_panel=DATA, help=_SHARE)
]
Strict = Annotated[
    bool | None, typer.Option("--strict", show_default="off", rich_help_panel=DATA, help="Stop at the first bad item.")
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random.", min=0, rich_help_panel=RUN)]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.", rich_help_panel=RUN)]
BatchSize = Annotated[
    int,
    typer.Option(
        "--batch-size", help="Items made at a time; changes memory, not the items.", min=1, rich_help_panel=RUN
    ),
]
Draws = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Of strings: decode each sample N times at random and keep the most frequent valid string.",
        show_default="once, to the likeliest",
        rich_help_panel=MODEL,
    ),
]
CheckpointDir = Annotated[Path, typer.Argument(metavar="CKPT", help="A checkpoint directory.", show_default=False)]
Out = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        metavar="OUT",
        show_default=False,
        rich_help_panel=OUTPUT,
        help="A picture (.png, .jpg, ...), an archive (.npz), or, without a suffix, a directory of one file an item; "
        "of strings a .txt, one a line.",
    ),
]
Source = Annotated[
    str, typer.Option("--data", metavar="SOURCE", show_default=False, rich_help_panel=DATA, help=SOURCES)
]
OptionalSource = Annotated[
    str | None,
    typer.Option(
        "--data", metavar="SOURCE", show_default="the data of the training", rich_help_panel=DATA, help=SOURCES
    ),
]
DensityName = Annotated[
    str | None,
    typer.Option(
        "--density",
        metavar="NAME",
        show_default="the last one fitted",
        rich_help_panel=MODEL,
        help="A fitted density's name, or its kind if only one has it.",
    ),
]
