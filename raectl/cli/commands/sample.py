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
    n: Annotated[int | None, o.out("How many.", "64", "-n", min=1, metavar="N")] = None,
    density: o.DensityName = None,
    classes: Annotated[
        list[str] | None,
        o.model(
            "Of a density by class: a class to draw from, repeatable.",
            "all, by their shares",
            "--class",
            metavar="CLASS",
        ),
    ] = None,
    per_class: Annotated[
        int | None, o.out("So many of each class, in a picture a row each with its name.", min=1, metavar="N")
    ] = None,
    latents: Annotated[bool, o.out("Write latents, (n, d), to a .npy, instead of items.", True, "--latents")] = False,
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
    """Draw new items from a fitted density; item i depends on the seed and i alone.

    Example: [bold]raectl sample ckpt -n 64 -o samples.png[/]
    """
    from raectl.checkpoint.checkpoint import load
    from raectl.cli.terminal import TerminalProgress
    from raectl.generation.nearest import compare_with_training, open_training, write_nearest
    from raectl.generation.sampling import write_samples
    from raectl.storage.atomic import require_outside

    if n is not None and per_class is not None:
        raise UsageError("-n and --per-class exclude each other", "--per-class is of each class")
    o.check_bands(bands, out, nearest)
    n, chosen = per_class or n or 64, tuple(dict.fromkeys(classes or ()))
    with TerminalProgress() as progress:
        if nearest is not None:  # before anything is written
            if per_class is not None:
                raise UsageError("--nearest is for samples without --per-class", "-n instead, with --class")
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
            classes=chosen,
            per_class=per_class is not None,
            latents=latents,
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
            items = checkpoint.sample(min(n, _COMPARED), seed, density, chosen)
            found = compare_with_training(checkpoint, items, training, progress)
            write_nearest(checkpoint, items, training, found, nearest)
            beside = {"out": str(nearest), **found.to_dict()}
    number = {"per_class": n} if per_class else {"n": n}
    values = {"out": str(out), **number, "density": name, "decoder": used, "draws": draws, "seed": seed}
    rows = {"samples" if key == "out" else key: value for key, value in values.items() if value is not None}
    rows |= {"classes": ", ".join(chosen)} if chosen else {}
    more = {**({"classes": chosen} if chosen else {}), **({"nearest": beside} if beside else {})}
    emit({**values, **more}, rows, as_json=as_json)
    if beside and not as_json:
        print_nearest(beside)
