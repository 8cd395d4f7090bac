"""`raectl compare`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from raectl.cli import options as o


def compare(
    ckpts: Annotated[list[Path], typer.Argument(metavar="CKPT...", help="Checkpoint directories.", show_default=False)],
    metric: Annotated[str, o.model("Which of the numbers of `raectl evaluate`.")] = "kernel",
    data: Annotated[
        str | None, o.data("Items for the picture, as for the other commands.", "none", "--data", metavar="SOURCE")
    ] = None,
    out: Annotated[Path | None, o.out("A picture (.png, ...).", "none", "--out", "-o", metavar="OUT")] = None,
    n: Annotated[int, o.out("Items in a row of the picture.", True, "-n", min=2)] = 10,
    seed: o.Seed = 0,
    max_bad: o.OtherMaxBad = None,
    device: o.Device = "auto",
    as_json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Show several models in one table, in the form of the paper's Table 1, and in one picture.

    Example: [bold]raectl compare ckpt-a ckpt-b --data ./test-imgs -o compared.png[/]
    """
    from raectl.checkpoint.checkpoint import load
    from raectl.cli.output import emit
    from raectl.cli.terminal import TerminalProgress
    from raectl.errors import UsageError
    from raectl.evaluation import comparing
    from raectl.storage.atomic import require_outside

    if (out is None) != (data is None):
        raise UsageError("a picture needs both --data and --out", "--data SOURCE --out compared.png")
    if max_bad is not None and data is None:
        raise UsageError("--max-bad needs --data")
    checkpoints = [load(ckpt, device) for ckpt in ckpts]
    protocol, rows = comparing.table(checkpoints, metric)
    if out is not None:
        comparing.require_alike(checkpoints)
        checkpoints[0].modality.writer.check_out(out)
        with TerminalProgress() as progress:
            dataset = checkpoints[0].open_data(data, progress, max_bad)
        require_outside(out, dataset.source)
        comparing.write_picture(checkpoints, dataset, out, n, seed)
    names = comparing.labels(checkpoints)
    if as_json:
        compared = {str(path): list(row.values()) for path, row in zip(ckpts, rows, strict=True)}
        emit({"metric": metric, "protocol": protocol, "checkpoints": compared, "out": out}, as_json=True)
    else:
        _table(names, metric, protocol, rows, out)


def _table(names: list[str], metric: str, protocol: dict[str, Any], rows: list[Any], out: Path | None) -> None:
    from raectl.cli.output import emit_table, say

    columns = list(dict.fromkeys(of for row in rows for of in row))
    cells: list[list[object]] = [
        [name, *(_cell(row.get(of)) for of in columns)] for name, row in zip(names, rows, strict=True)
    ]
    emit_table(f"{metric}, n = {protocol['n']:,}, {protocol['extractor']}", ["", *columns], cells)
    for name, row in zip(names, rows, strict=True):
        if not row:
            say(f"note: nothing was measured of {name} on the same data, n and features as of {names[0]}")
    if any(line.get("split") == "training" for row in rows for line in row.values()):
        say("note: * was measured on the data that the model was trained on; raectl evaluate it on others")
    if out is not None:
        say(f"picture: {out}")


def _cell(line: dict[str, Any] | None) -> str:
    """A number with its standard error, and a mark if it says little."""
    from raectl.cli.output import figure
    from raectl.metrics.reference import Measured

    if line is None:
        return figure(None)
    return figure(Measured(line["value"], line.get("se"))) + ("*" if line.get("split") == "training" else "")
