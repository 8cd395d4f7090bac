"""`raectl nearest`."""

from pathlib import Path
from typing import Annotated, Any

from raectl.cli import options as o
from raectl.cli.output import emit, emit_table, number, say


def nearest(
    ckpt: o.CheckpointDir,
    samples: Annotated[
        str, o.data("Samples, or any other items: what `raectl sample -o` wrote, or a SOURCE.", False, metavar="SOURCE")
    ],
    out: Annotated[
        Path,
        o.out(
            "A picture (.png, .jpg, ...) of samples above their nearest items; of strings a .txt.",
            False,
            "--out",
            "-o",
            metavar="OUT",
        ),
    ],
    n: Annotated[int, o.out("Samples in the picture, those nearest to a training item first.", True, "-n", min=1)] = 12,
    data: Annotated[
        str | None, o.data("The data of the training, if they moved.", "where they were", "--data", metavar="SOURCE")
    ] = None,
    bands: o.Bands = None,
    device: o.Device = "auto",
    as_json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Show samples beside the training items that they are nearest to, and say whether they are copies.

    Example: [bold]raectl nearest ckpt --samples samples.npz -o near.png[/]
    """
    from raectl.checkpoint.checkpoint import load
    from raectl.cli.terminal import TerminalProgress
    from raectl.generation.nearest import compare_with_training, open_training, write_nearest
    from raectl.storage.atomic import require_outside

    checkpoint = load(ckpt, device, bands=bands)
    checkpoint.modality.writer.check_rows(out)
    with TerminalProgress() as progress:
        training = open_training(checkpoint, data, progress)
        dataset = checkpoint.open_data(samples, progress)
        for source in (training.source, dataset.source):
            require_outside(out, source)
        found = compare_with_training(checkpoint, dataset.items, training, progress)
        write_nearest(checkpoint, dataset.items, training, found, out, n)
    values = {"out": str(out), **found.to_dict()}
    if as_json:
        emit(values, as_json=True)
    else:
        print_nearest(values)


def print_nearest(values: dict[str, Any]) -> None:
    """The numbers for people."""
    ranked = sorted(enumerate(values["nearest"]), key=lambda pair: pair[1]["distance"])
    rows: list[list[object]] = [[index, near["item"], number(near["distance"])] for index, near in ranked[:10]]
    emit_table("the samples nearest to a training item", ["sample", "item", "distance"], rows)
    copied = values["copied"]
    shown = f"{copied['value']:.3f} ± {copied['se']:.3f}" if copied else "-, as too little was held out"
    equal = f"{values['equal']:,} of {values['n']:,}"
    emit({}, {"equal to a training item": equal, "copied": shown, "picture": values["out"]}, as_json=False)
    say("copied: share of samples that are nearer to a training item than to a held-out one; 0.5 if nothing is copied")
    if values["held_out_distance"] is not None:
        median = number(values["held_out_distance"])
        say(f"held-out items are {median} from their nearest training item (median; root mean square of values)")
