"""`raectl compare`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from raectl.cli import options as o
from raectl.cli.output import emit, emit_table, figure, say
from raectl.errors import UsageError


def compare(
    ckpts: Annotated[list[Path], typer.Argument(metavar="CKPT...", help="Checkpoint directories.", show_default=False)],
    metric: Annotated[str, o.model("Which of the numbers of `raectl evaluate`.")] = "kernel",
    data: Annotated[
        str | None, o.data("Items for the picture, as for the other commands.", "none", "--data", metavar="SOURCE")
    ] = None,
    out: Annotated[Path | None, o.out("A picture (.png, ...).", "none", "--out", "-o", metavar="OUT")] = None,
    n: Annotated[int, o.out("Items in a row of the picture.", True, "-n", min=2)] = 10,
    seed: o.Seed = 0,
    decoder: o.Decoder = None,
    max_bad: o.OtherMaxBad = None,
    bands: o.Bands = None,
    device: o.Device = "auto",
    as_json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Show several models in one table, in the form of the paper's Table 1, and in one picture.

    Example: [bold]raectl compare ckpt-a ckpt-b --data ./test-imgs -o compared.png[/]
    """
    from raectl.checkpoint.checkpoint import load
    from raectl.cli.terminal import TerminalProgress
    from raectl.evaluation import comparing
    from raectl.storage.atomic import require_outside

    if (out is None) != (data is None):
        raise UsageError("a picture needs both --data and --out", "--data SOURCE --out compared.png")
    if max_bad is not None and data is None:
        raise UsageError("--max-bad needs --data")
    checkpoints = [load(ckpt, device, decoder, bands) for ckpt in ckpts]
    table = comparing.table(checkpoints, metric)
    if out is not None:
        comparing.require_alike(checkpoints)
        checkpoints[0].modality.writer.check_out(out)
        with TerminalProgress() as progress:
            dataset = checkpoints[0].open_data(data, progress, max_bad)
        require_outside(out, dataset.source)
        comparing.write_picture(checkpoints, dataset, out, n, seed)
    if as_json:
        paths = [*map(str, ckpts)]
        lines = [[line for row in found for line in row.values()] for found in table.rows]
        compared, left_out = (dict(zip(paths, of, strict=True)) for of in (lines, table.left_out))
        values = {"metric": metric, "protocol": table.protocol, "checkpoints": compared, "left_out": left_out}
        emit({**values, "out": out}, as_json=True)
    else:
        _table(comparing.labels(checkpoints), metric, table, out)


def _table(names: list[str], metric: str, table: Any, out: Path | None) -> None:
    named = [(name, row) for name, found in zip(names, table.rows, strict=True) for row in found]
    columns = list(dict.fromkeys(of for _, row in named for of in row))
    cells: list[list[object]] = [[_label(name, row), *(_cell(row.get(of)) for of in columns)] for name, row in named]
    protocol = table.protocol
    title = f"{metric}, n = {protocol['n']:,}, {protocol['extractor']}, seed {protocol['seed']}"
    emit_table(title + (f", {protocol['kind']} interpolation" if protocol["kind"] else ""), ["", *columns], cells)
    for name, row in named:
        if not row:
            say(f"note: nothing was measured of {name} on the same data, n, seed and features as of {named[0][0]}")
    for name, groups in zip(names, table.left_out, strict=True):
        if groups:
            say(f"note: of {name}, measured otherwise and so not in this table: {'; '.join(map(_otherwise, groups))}")
    for sentence in dict.fromkeys(_trained_on(name, line) for name, row in named for line in row.values()):
        if sentence:
            say(sentence)
    if out is not None:
        say(f"picture: {out}")


def _otherwise(group: dict[str, Any]) -> str:
    """What differs from the table's protocol, and of which columns."""
    told = {"data": "other data", "draws": f"{group.get('draws') or 1} draws"}
    skipped = ("of", "n_real") if group.get("n_real") == group.get("n") else ("of",)
    fields = [told.get(name, f"{name} {value}") for name, value in group.items() if name not in skipped]
    return f"{', '.join(fields)} ({', '.join(group['of'])})"


def _trained_on(name: str, line: dict[str, Any]) -> str:
    """What the star beside a number means; empty without one."""
    from raectl.checkpoint.items import Seen

    if line.get("split") == "training":
        return "note: * was measured on the data that the model was trained on; raectl evaluate it on others"
    if line.get("split") != "mixed":
        return ""
    counts: Any = [line.get(field) for field in ("n_real", "trained_on", "held_out")]
    if any(type(count) is not int for count in counts):
        return ""
    return f"note: * of {name}: {Seen(*counts).sentence}"


def _label(name: str, row: dict[str, Any]) -> str:
    """The checkpoint's name; of a sharpened decoder's row with that."""
    is_sharp = any(line.get("decoder") == "sharp" for line in row.values())
    return f"{name}, sharpened" if is_sharp else name


def _cell(line: dict[str, Any] | None) -> str:
    """A number with its standard error, and a mark if it says little."""
    from raectl.metrics.reference import Measured

    if line is None:
        return "-"
    return figure(Measured(line["value"], line.get("se"))) + ("*" if line.get("split") in ("training", "mixed") else "")
