"""`raectl reconstruct`."""

from typing import Annotated

from raectl.cli import options as o


def reconstruct(
    ckpt: o.CheckpointDir,
    data: o.Source,
    out: o.Out,
    n: Annotated[
        int | None,
        o.out(
            "How many to write, the first of the data; the numbers are over all.",
            "64 for a picture, else all",
            "-n",
            min=1,
            metavar="N",
        ),
    ] = None,
    max_bad: o.OtherMaxBad = None,
    decoder: o.Decoder = None,
    device: o.Device = "auto",
    as_json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Reconstruct a source's items, beside the originals, and say how far they are.

    Example: [bold]raectl reconstruct ckpt --data ./imgs -o pairs.png[/]
    """
    from raectl.checkpoint.checkpoint import load
    from raectl.cli.output import emit, number, say
    from raectl.cli.terminal import TerminalProgress
    from raectl.generation.reconstructing import reconstruct_source

    checkpoint = load(ckpt, device, decoder)
    checkpoint.modality.writer.check_out(out)
    with TerminalProgress() as progress:
        dataset = checkpoint.open_data(data, progress, max_bad)
        means, written = reconstruct_source(checkpoint, dataset, out, n, progress)
    values = {"out": str(out), "written": written, "n": len(dataset), "source": dataset.source}
    plain, *others = means.values()  # the plain decoder's are the scores of faithfulness
    rows: dict[str, object] = {
        "pairs": out,
        "written": f"{written:,}",
        "written by": f"the {checkpoint.decoder_name} decoder",
    }
    rows |= {name: number(value, 6) for name, value in plain.items()}
    if others:
        rows = {name: f"{value} (plain decoder)" if name in plain else value for name, value in rows.items()}
        rows |= {f"{name}, sharp": number(value, 6) for name, value in others[0].items()}
    emit(
        {**values, "written_by": checkpoint.decoder_name, **plain, **({"sharp": others[0]} if others else {})},
        {**rows, "n": f"{len(dataset):,}"},
        as_json=as_json,
    )
    if dataset.fingerprint == checkpoint.data.fingerprint:
        say("note: these are the data the model was trained on, not new ones")
