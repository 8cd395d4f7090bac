"""`raectl sample`."""

from pathlib import Path
from typing import Annotated

from raectl.cli import options as o
from raectl.cli.commands.nearest import print_nearest
from raectl.cli.output import emit
from raectl.errors import UsageError

_COMPARED = 1000  # samples that are compared with the training items


def sample(
    ckpt: o.CheckpointDir,
    out: o.Out,
    n: Annotated[int, o.out("How many.", True, "-n", min=1, metavar="N")] = 64,
    density: o.DensityName = None,
    draws: o.Draws = None,
    decoder: o.Decoder = None,
    seed: o.Seed = 0,
    nearest: Annotated[
        Path | None, o.out("A picture of samples above the training items that they are nearest to, as raectl nearest.")
    ] = None,
    batch_size: o.BatchSize = 1024,
    bands: o.Bands = None,
    device: o.Device = "auto",
    as_json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Draw new items from a fitted density; item i depends on the seed and i alone. OUT may be .npy: latents.

    Example: [bold]raectl sample ckpt -n 64 -o samples.png[/]
    """
    from raectl.checkpoint.checkpoint import load
    from raectl.cli.terminal import TerminalProgress
    from raectl.generation.nearest import compare_with_training, open_training, write_nearest
    from raectl.generation.sampling import write_samples
    from raectl.storage.atomic import require_outside

    with TerminalProgress() as progress:
        if nearest is not None:  # before anything is written
            if draws is not None:
                raise UsageError("--nearest is for samples without --draws", "write them first, then: raectl nearest")
            if nearest.resolve() == out.resolve():
                raise UsageError(f"-o and --nearest are both {out}", "another name for one of them")
            checkpoint = load(ckpt, device, decoder, bands)
            checkpoint.modality.writer.check_rows(nearest)
            training = open_training(checkpoint, None, progress)
            require_outside(nearest, training.source)
        name, used = write_samples(
            ckpt,
            out,
            n,
            density=density,
            draws=draws,
            decoder=decoder,
            seed=seed,
            batch_size=batch_size,
            bands=bands,
            device=device,
            progress=progress,
        )
        beside = None
        if nearest is not None:
            items = checkpoint.sample(min(n, _COMPARED), seed, density)
            found = compare_with_training(checkpoint, items, training, progress)
            write_nearest(checkpoint, items, training, found, nearest)
            beside = {"out": str(nearest), **found.to_dict()}
    values = {"out": str(out), "n": n, "density": name, "decoder": used, "draws": draws, "seed": seed}
    rows = {"samples" if key == "out" else key: value for key, value in values.items() if value is not None}
    emit({**values, **({"nearest": beside} if beside else {})}, rows, as_json=as_json)
    if beside and not as_json:
        print_nearest(beside)
