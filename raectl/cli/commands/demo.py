"""`raectl demo`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from raectl.cli import options as o
from raectl.cli.output import emit, number, say
from raectl.config import Config
from raectl.errors import RaectlError, UsageError, command

EPOCHS = 20
_SOURCE = "digits"


def demo(
    out: Annotated[
        Path, typer.Option("--out", help="The checkpoint directory to make; a former demo is replaced.")
    ] = Path("raectl-demo"),
    seed: o.Seed = 0,
    as_json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """The whole way on scikit-learn's built-in digits, in about a minute: train, fit a density, sample, reconstruct.

    Example: [bold]raectl demo[/]
    """
    from raectl.cli.terminal import TerminalProgress
    from raectl.generation.reconstructing import reconstruct_source
    from raectl.generation.sampling import write_samples
    from raectl.training.run import train

    config = Config(reg="tikhonov", image_size=32, fit="stretch", width=16, epochs=EPOCHS, seed=seed)
    former = _is_former_demo(out, config)
    if not former and out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(f"{out} exists and is no former demo, so it is not replaced", "choose another --out")
    say("1,797 handwritten digits, a Regularized Autoencoder with Tikhonov regularization; the same by hand:")
    shape = ["--image-size", "32", "--fit", "stretch", "--reg", "tikhonov", "--width", "16"]
    say("  " + command("raectl", "train", "--data", _SOURCE, *shape, "--epochs", EPOCHS, "--out", out))
    with TerminalProgress() as progress:
        checkpoint = train(config, _SOURCE, out, overwrite=former, progress=progress)
        say("  " + command("raectl", "fit-density", out))
        fit = checkpoint.fit_density(seed=seed, progress=progress)
        samples, pairs = out / "samples.png", out / "reconstructions.png"
        say("  " + command("raectl", "sample", out, "-n", 64, "-o", samples))
        write_samples(out, samples, 64, seed=seed)
        say("  " + command("raectl", "reconstruct", out, "--data", _SOURCE, "-o", pairs))
        found = reconstruct_source(checkpoint, checkpoint.open_data(), pairs, None, progress)
    means, mean_image = found.errors["plain"], found.baseline.errors["mse"]
    made = {"checkpoint": str(out), "samples": str(samples), "reconstructions": str(pairs)}
    emit(
        {**made, "nats_per_dimension": {"train": fit.train, "held_out": fit.held_out}, **means},
        {
            "samples": samples,
            "reconstructions": pairs,
            "mean squared error": f"{number(means['mse'], 5)} per pixel (the mean image's: {number(mean_image, 5)}), "
            "n = 1,797, training data included",
            "log-likelihood, held out": f"{number(fit.held_out)} nats per dimension, n = {fit.n_held_out}",
        },
        as_json=as_json,
    )
    say("look at the two pictures; then: raectl train --data ./your-images --reg tikhonov --out ckpt")


def _is_former_demo(out: Path, config: Any) -> bool:
    """Whether `out` is what this command leaves: the only directory that it replaces unasked."""
    from raectl.checkpoint.directory import Directory

    try:
        record = Directory(out).read_config()
    except RaectlError:
        return False
    stored = record.resolved
    same = all(
        getattr(stored, name) == getattr(config, name) for name in ("model", "width", "image_size", "fit", "epochs")
    )
    return same and record.data.source == _SOURCE and set(stored.reg) == set(config.reg)
