"""`raectl interpolate`."""

from typing import Annotated

import typer

from raectl.cli import options as o


def interpolate(
    ckpt: o.CheckpointDir,
    data: o.Source,
    out: o.Out,
    steps: Annotated[
        int, typer.Option(min=2, help="Items in a walk, both ends among them.", rich_help_panel=o.OUTPUT)
    ] = 9,
    pairs: Annotated[int, typer.Option(min=1, help="How many random pairs.", rich_help_panel=o.DATA)] = 8,
    between: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="ITEM ITEM",
            show_default="random pairs",
            help="Two items of the data instead, by name or by number.",
            rich_help_panel=o.DATA,
        ),
    ] = None,
    kind: Annotated[
        str, typer.Option(help="linear, or spherical: by equal angles.", rich_help_panel=o.MODEL)
    ] = "linear",
    seed: o.Seed = 0,
    max_bad: o.OtherMaxBad = None,
    device: o.Device = "auto",
    as_json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Walk from one item to another in latent space: a row a walk, or an animation if OUT is a .gif.

    Example: [bold]raectl interpolate ckpt --data ./imgs -o walks.png[/]
    """
    from raectl.checkpoint.checkpoint import load
    from raectl.cli.output import emit
    from raectl.cli.terminal import TerminalProgress
    from raectl.errors import UsageError
    from raectl.generation import interpolation
    from raectl.storage.atomic import require_outside

    if kind not in interpolation.KINDS:
        raise UsageError(f"--kind {kind!r} is none of {', '.join(interpolation.KINDS)}")
    checkpoint = load(ckpt, device)
    checkpoint.modality.check_out(out)
    with TerminalProgress() as progress:
        dataset = checkpoint.open_data(data, progress, max_bad)
    require_outside(out, dataset.source)
    if between:
        chosen = interpolation.named_pair(dataset, *between)
    else:
        chosen = interpolation.random_pairs(len(dataset), pairs, seed)
    walks = interpolation.interpolate(checkpoint, dataset.items, chosen, steps, kind)
    checkpoint.modality.write_walks(out, walks)
    values = {"out": str(out), "kind": kind, "steps": steps, "pairs": chosen.tolist()}
    emit(values, {"walks": out, "pairs": len(chosen), "steps": steps, "kind": kind}, as_json=as_json)
