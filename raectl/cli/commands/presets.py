"""`raectl presets`."""

from typing import Annotated, Any

import typer

from raectl.cli import options as o
from raectl.cli.output import emit, emit_table, say
from raectl.config import text_of
from raectl.errors import command

_FIDS = ("rec", "N", "GMM", "interp")


def presets(
    name: Annotated[
        str,
        typer.Argument(metavar="[NAME]", help="A data set, or how names begin: mnist, celeba/rae.", show_default="all"),
    ] = "",
    as_json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """List the settings of the paper's Table 1 that `train --preset` takes, and the FID that it reports for them.

    Example: [bold]raectl presets mnist[/]
    """
    from raectl.presets import PRESETS, matching, options

    names = matching(name)
    if as_json:
        emit({"presets": [_values(name, PRESETS[name], options(name)) for name in names]}, as_json=True)
        return
    title = "the paper's settings, and its FID for reconstructions, samples of N and GMM, interpolations"
    columns = [*zip(*[_cells(name, PRESETS[name], options(name)) for name in names], strict=True)]
    headers = ("preset", "model", "beta", "regularizer, other", "d", "epochs", "lr", *_FIDS)
    left = ("preset", "model", "regularizer, other")
    padded = [
        [cell if header in left else cell.rjust(max(map(len, (header, *column)))) for cell in (header, *column)]
        for header, column in zip(headers, columns, strict=True)
    ]
    shown, *rows = map(list, zip(*padded, strict=True))
    emit_table(title, shown, rows, gap=1)
    for row, density in ((name, PRESETS[name].density) for name in names):
        if density:
            say(f"{row}, once trained: {command('raectl', 'fit-density', 'ckpt', *fit_arguments(density))}")


def fit_arguments(density: dict[str, dict[str, Any]]) -> list[str]:
    """How `fit-density` is told of the density of a preset.

    Example:
        >>> fit_arguments({"vae": {"beta": 0.5}})
        ['--density', 'vae,beta=0.5']
    """
    return [word for kind, given in density.items() for word in ("--density", text_of(kind, **given))]


def _values(name: str, row: Any, options: dict[str, Any]) -> dict[str, Any]:
    fid = dict(zip(("reconstruction", "N", "GMM", "interpolation"), row.fid, strict=True)) if row.fid else None
    return {"preset": name, "options": options, "density": row.density, "fid": fid}


def _cells(name: str, row: Any, options: dict[str, Any]) -> list[str]:
    """A preset as one line of the table."""
    from raectl.presets import OTHER

    sizes = [f"{key}={value}" for key, value in OTHER.get(name, {}).items()]
    density = [f"then {_worded(kind, **given)}" for kind, given in row.density.items()]
    other = [*(_worded(kind, **given) for kind, given in row.reg.items()), *sizes, *density]
    fids = ["-" if value is None else f"{value:.2f}" for value in row.fid or [None] * len(_FIDS)]
    numbers = [f"{options['latent_dim']}", f"{row.epochs}", f"{row.lr:g}"]
    return [name, row.model, f"{row.beta:g}", ", ".join(other), *numbers, *fids]


def _worded(name: str, weight: float | None = None, **others: Any) -> str:
    """`NAME[=WEIGHT]` and the other options, for a narrow column: words as they are, switches by their names."""
    words = [v if isinstance(v, str) else key if v is True else f"{key}={v:g}" for key, v in others.items()]
    return " ".join([text_of(name, weight=weight), *words])
