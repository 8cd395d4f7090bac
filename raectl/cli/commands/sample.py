"""`raectl sample`."""

from typing import Annotated

from raectl.cli import options as o
from raectl.cli.output import emit


def sample(
    ckpt: o.CheckpointDir,
    out: o.Out,
    n: Annotated[int, o.out("How many.", True, "-n", min=1, metavar="N")] = 64,
    density: o.DensityName = None,
    draws: o.Draws = None,
    decoder: o.Decoder = None,
    seed: o.Seed = 0,
    batch_size: o.BatchSize = 1024,
    device: o.Device = "auto",
    as_json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Draw new items from a fitted density; item i depends on the seed and i alone. OUT may be .npy: latents.

    Example: [bold]raectl sample ckpt -n 64 -o samples.png[/]
    """
    from raectl.cli.terminal import TerminalProgress
    from raectl.generation.sampling import write_samples

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
    values = {"out": str(out), "n": n, "density": name, "decoder": used, "draws": draws, "seed": seed}
    rows = {"samples" if key == "out" else key: value for key, value in values.items() if value is not None}
    emit(values, rows, as_json=as_json)
