"""`raectl interpolate`."""

from typing import Annotated

from raectl.cli import options as o
from raectl.cli.output import emit
from raectl.errors import UsageError


def interpolate(
    ckpt: o.CheckpointDir,
    data: o.Source,
    out: o.Out,
    steps: Annotated[int, o.out("Items in a walk, both ends among them.", min=2)] = 9,
    pairs: Annotated[int, o.data("How many random pairs.", min=1)] = 8,
    between: Annotated[
        tuple[str, str] | None,
        o.data("Two items of the data instead, by name or by number.", "random pairs", metavar="ITEM ITEM"),
    ] = None,
    classes: Annotated[
        tuple[str, str] | None,
        o.data(
            "Two classes instead: each walk leads from an item of one to an item of the other.",
            "pairs of all items",
            metavar="CLASS CLASS",
        ),
    ] = None,
    kind: Annotated[str, o.model("linear, or spherical: by equal angles.")] = "linear",
    decoder: o.Decoder = None,
    seed: o.Seed = 0,
    max_bad: o.OtherMaxBad = None,
    bands: o.Bands = None,
    device: o.Device = "auto",
    as_json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Walk from one item to another in latent space: a row a walk, or an animation if OUT is a .gif.

    Example: [bold]raectl interpolate ckpt --data ./imgs -o walks.png[/]
    """
    from raectl.checkpoint.checkpoint import load
    from raectl.cli.terminal import TerminalProgress
    from raectl.generation import interpolation
    from raectl.storage.atomic import require_outside

    if between and classes:
        raise UsageError("--between and --classes exclude each other", "one of them")
    o.check_bands(bands, out)
    interpolation.path_of(kind)
    checkpoint = load(ckpt, device, decoder, bands)
    checkpoint.modality.writer.check_out(out)
    with TerminalProgress() as progress:
        dataset = checkpoint.open_data(data, progress, max_bad)
    require_outside(out, dataset.source)
    if between:
        chosen = interpolation.named_pair(dataset, *between)
    elif classes:
        chosen = interpolation.pairs_of_classes(dataset, classes, pairs, seed)
    else:
        chosen = interpolation.random_pairs(len(dataset), pairs, seed)
    walks = interpolation.interpolate(checkpoint, dataset.items, chosen, steps, kind)
    checkpoint.modality.writer.write_walks(out, walks)
    shown = {"steps": steps, "kind": kind, "decoder": checkpoint.decoder_name}
    values = {"out": str(out), **shown, "pairs": chosen.tolist(), "seed": None if between else seed}
    emit(values, {"walks": out, "pairs": len(chosen), **shown}, as_json=as_json)
