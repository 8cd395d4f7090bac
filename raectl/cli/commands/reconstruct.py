"""`raectl reconstruct`."""

from pathlib import Path
from typing import Annotated, Any

from raectl.cli import options as o
from raectl.cli.output import emit, number, say


def reconstruct(
    ckpt: o.CheckpointDir,
    data: o.Source,
    out: o.Out,
    n: Annotated[
        int | None,
        o.out(
            "How many to write, chosen by the seed; the numbers are over all.",
            "64 for a picture, else all",
            "-n",
            min=1,
            metavar="N",
        ),
    ] = None,
    max_bad: o.OtherMaxBad = None,
    decoder: o.Decoder = None,
    seed: o.Seed = 0,
    bands: o.Bands = None,
    device: o.Device = "auto",
    as_json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Reconstruct a source's items, beside the originals, and say how far they are.

    Example: [bold]raectl reconstruct ckpt --data ./imgs -o pairs.png[/]
    """
    from raectl.checkpoint.checkpoint import load
    from raectl.cli.terminal import TerminalProgress
    from raectl.generation.reconstructing import reconstruct_source

    o.check_bands(bands, out)
    checkpoint = load(ckpt, device, decoder, bands)
    checkpoint.modality.writer.check_out(out)
    with TerminalProgress() as progress:
        dataset = checkpoint.open_data(data, progress, max_bad)
        found = reconstruct_source(checkpoint, dataset, out, n, progress, seed)
    _show(found, checkpoint, dataset, out, as_json=as_json)


def _show(found: Any, checkpoint: Any, dataset: Any, out: Path, *, as_json: bool) -> None:
    """The errors of each decoder, beside those of the mean item, and how many of the items are no new ones."""

    plain, *others = found.errors.values()  # the plain decoder's are the scores of faithfulness
    made_by, mean = checkpoint.decoder_name, found.baseline.name
    rows: dict[str, object] = {"pairs": out, "written": f"{found.written:,}", "written by": f"the {made_by} decoder"}
    rows |= {name: number(value, 6) + " (plain decoder)" * len(others) for name, value in plain.items()}
    rows |= {f"{name}, sharp": number(value, 6) for other in others for name, value in other.items()}
    rows |= {f"{name}, {mean}": number(value, 6) for name, value in found.baseline.errors.items()}
    values = {
        **{"out": str(out), "written": found.written, "n": len(dataset), "source": dataset.source},
        **{"written_by": made_by, **plain, **({"sharp": others[0]} if others else {})},
        "baseline": {"name": mean, "of": found.baseline.of, **found.baseline.errors},
        "trained_on": found.seen and found.seen.trained_on,
        "held_out": found.seen and found.seen.held_out,
    }
    emit(values, {**rows, "n": f"{len(dataset):,}"}, as_json=as_json)
    say(f"note: the {mean} is that of {found.baseline.of}: its error is that of knowing nothing of an item")
    if dataset.fingerprint == checkpoint.data.fingerprint:
        say("note: these are the data the model was trained on, not new ones")
    elif found.seen and found.seen.total:
        say(f"note: {found.seen.sentence}: new ones are reconstructed worse")
