"""`raectl optimize`."""

from typing import Annotated, Any

from raectl import registry
from raectl.cli import options as o
from raectl.cli.output import emit, emit_table, number, say
from raectl.optimization.settings import Settings

_SHOWN = 10  # strings


@o.flags(Settings, after="data")
def optimize(
    ckpt: o.CheckpointDir,
    objective: Annotated[str, o.model(f"What to seek: {registry.known('objective')}.", False, metavar="NAME")],
    data: o.OptionalSource = None,
    overwrite: Annotated[bool, o.run("Begin again, not after the last round.", True, "--overwrite")] = False,
    max_bad: o.OtherMaxBad = None,
    device: o.Device = "auto",
    as_json: o.Json = False,
    debug: o.Debug = False,
    **flags: Any,
) -> None:
    """Look for strings of a good score by Bayesian optimization in latent space; a stopped run goes on.

    Example: [bold]raectl optimize ckpt --objective expressions[/]
    """
    from raectl.checkpoint.checkpoint import load
    from raectl.cli.terminal import TerminalProgress
    from raectl.optimization.run import optimize as run

    settings = Settings(objective, **{name: value for name, value in flags.items() if value is not None})
    checkpoint = load(ckpt, device)
    with TerminalProgress() as progress:
        result = run(checkpoint, settings, data, overwrite=overwrite, max_bad=max_bad, progress=progress)
    _print(result, as_json=as_json)


def _print(result: Any, *, as_json: bool) -> None:
    best = result.best()[:_SHOWN]
    settings = {**result.settings.kept(), "rounds": len(result.strings) // result.settings.batch}
    values = {
        "out": str(result.path),
        **settings,
        "n": len(result.strings),
        "valid": result.valid,
        "mean": result.mean,
        "mean_of_others": result.mean_of_others,
        "best": [{"score": score, "string": text} for score, text in best],
        "data_best": result.data_best,
    }
    better = "lower" if result.objective.lower_is_better else "higher"
    rows = {
        "out": result.path,
        "points": f"{len(result.strings):,} in rounds of {settings['batch']}",
        "valid": f"{result.valid:.3f}",
        "mean score": f"{number(result.mean)}, without the worst {number(result.mean_of_others)}",
        "best of the data": number(result.data_best),
    }
    emit(values, rows, as_json=as_json)
    if not as_json:
        emit_table("", [f"score, {better} is better", "string"], [[number(score), text] for score, text in best])
    if not result.beats_the_data:
        say("note: none is better than the best of the data; a model that is trained longer may know others")
