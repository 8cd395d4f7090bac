"""`raectl sharpen`."""

from dataclasses import asdict
from typing import Annotated, Any

from raectl.cli import options as o
from raectl.cli.output import emit, number, say
from raectl.errors import command
from raectl.training.sharpening.options import Options


@o.flags(Options, after="ckpt")
def sharpen(
    ckpt: o.CheckpointDir,
    data: o.OptionalSource = None,
    resume: Annotated[bool, o.run("Go on with an interrupted sharpening.", True, "--resume")] = False,
    overwrite: Annotated[bool, o.run("Begin anew from the plain decoder.", True, "--overwrite")] = False,
    device: o.Device = "auto",
    as_json: o.Json = False,
    debug: o.Debug = False,
    **flags: Any,
) -> None:
    """Sharpen what a model draws: train its decoder on, against a critic. Latents, densities and the old decoder stay.

    Example: [bold]raectl sharpen ckpt[/]
    """

    from raectl.cli.terminal import TerminalProgress
    from raectl.training.sharpening.run import sharpen as run

    with TerminalProgress() as progress:
        checkpoint = run(
            ckpt, **flags, source=data, resume=resume, overwrite=overwrite, device=device, progress=progress
        )
    made = checkpoint.sharpened
    if made is None:
        emit({"checkpoint": str(ckpt), "decoder": checkpoint.decoder_name}, {"decoder": "plain"}, as_json=as_json)
        return
    held_out = made.held_out
    rows = {
        "decoder": checkpoint.decoder_name,
        "steps": f"{made.step:,} of {made.steps:,}",
        "held-out error": f"{number(held_out['error'], 5)} per pixel; plain {number(held_out['plain_error'], 5)}",
        "sharpness of samples": f"{number(held_out.get('sharpness'), 2)} (1 is right)",
        "copied": f"{number(held_out.get('copied'), 2)} ± {number(held_out.get('copied_se'), 2)} (0.5 is right)",
    }
    emit({"checkpoint": str(ckpt), "decoder": checkpoint.decoder_name, **asdict(made)}, rows, as_json=as_json)
    say("latents and fitted densities stay valid; --decoder plain makes items with the other decoder")
    fit = command("raectl", "fit-density", ckpt)
    say("next: " + (command("raectl", "sample", ckpt, "-n", 64, "-o", "out.png") if checkpoint.densities() else fit))
