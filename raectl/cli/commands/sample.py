"""`raectl sample`."""

from pathlib import Path
from typing import Annotated

from raectl.cli import options as o
from raectl.cli.commands.nearest import find_nearest, print_nearest
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
    device: o.Device = "auto",
    as_json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Draw new items from a fitted density; item i depends on the seed and i alone. OUT may be .npy: latents.

    Example: [bold]raectl sample ckpt -n 64 -o samples.png[/]
    """
    from raectl.checkpoint.checkpoint import load
    from raectl.cli.terminal import TerminalProgress
    from raectl.generation.sampling import write_samples

    if nearest is not None and draws is not None:
        raise UsageError("--nearest is for samples without --draws", "write them first, then: raectl nearest")
    with TerminalProgress() as progress:
        name, used = write_samples(
            ckpt,
            out,
            n,
            density=density,
            draws=draws,
            decoder=decoder,
            seed=seed,
            batch_size=batch_size,
            device=device,
            progress=progress,
        )
        beside = None
        if nearest is not None:
            checkpoint = load(ckpt, device, decoder)
            items = checkpoint.sample(min(n, _COMPARED), seed, density)
            beside = find_nearest(checkpoint, items, nearest, 12, progress)
    values = {"out": str(out), "n": n, "density": name, "decoder": used, "draws": draws, "seed": seed}
    rows = {"samples" if key == "out" else key: value for key, value in values.items() if value is not None}
    emit({**values, **({"nearest": beside} if beside else {})}, rows, as_json=as_json)
    if beside and not as_json:
        print_nearest(beside)
