"""`raectl evaluate`."""

from pathlib import Path
from typing import Annotated, Any

from raectl import registry
from raectl.cli import options as o
from raectl.cli.output import emit, emit_table, figure, say


def evaluate(
    ckpt: o.CheckpointDir,
    data: o.Source,
    n: Annotated[
        int, o.data("At most this many real items, and as many of everything compared with them.", True, "-n", min=1)
    ] = 10_000,
    features: Annotated[
        str | None,
        o.model(
            f"{registry.known('extractor', but='edges')}.",
            "efficientnet-lite0 for images, else the data's own",
            metavar="NAME",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        o.model(
            "Weights of inception: pt_inception-2015-12-05-6726825d.pth or another file with its keys.", metavar="FILE"
        ),
    ] = None,
    density: Annotated[
        list[str] | None,
        o.model("A fitted density to judge, repeatable.", "all fitted to these weights", metavar="NAME"),
    ] = None,
    kind: Annotated[str, o.model("Of interpolation: linear or spherical.")] = "spherical",
    draws: o.Draws = None,
    decoder: o.Decoder = None,
    seed: o.Seed = 0,
    max_bad: o.OtherMaxBad = None,
    bands: o.Bands = None,
    device: o.Device = "auto",
    as_json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Measure reconstructions, samples of each density and interpolations against real items the model has not seen.

    Example: [bold]raectl evaluate ckpt --data ./test-imgs[/]
    """
    from raectl.checkpoint.checkpoint import load
    from raectl.cli.terminal import TerminalProgress
    from raectl.evaluation.evaluation import Evaluation
    from raectl.evaluation.verdict import verdict

    checkpoint = load(ckpt, device, decoder, bands)
    with TerminalProgress() as progress:
        evaluation = Evaluation(
            checkpoint,
            data,
            n=n,
            features=features,
            weights=weights,
            densities=density or (),
            kind=kind,
            seed=seed,
            draws=draws,
            max_bad=max_bad,
            progress=progress,
        )
        results = list(evaluation)
    sentences = verdict(
        [result for result in results if result.class_ is None], evaluation.extractor.judged_by, evaluation.seen
    )
    if as_json:
        numbers = [line for r in results for line in r.records]
        emit({"checkpoint": str(ckpt), "numbers": numbers, "verdict": sentences}, as_json=True)
    else:
        _table([result for result in results if result.class_ is None])
        if of_classes := [result for result in results if result.class_ is not None]:
            _classes(of_classes)
        for sentence in sentences:
            say(sentence)
    if evaluation.on_training_data:
        say("warning: these are the data the model was trained on; give it others", style="yellow")


def _table(results: list[Any]) -> None:
    """A row a set of items, a column a measure, the better direction beside its name."""
    metrics = list(dict.fromkeys(name for result in results for name in result.measured))
    rows = [[r.label, f"{r.protocol['n']:,}", *(figure(r.measured.get(metric)) for metric in metrics)] for r in results]
    emit_table("", ["", "n", *map(_header, metrics)], rows)
    say(
        f"features: {results[0].protocol['extractor']}; 'real' is what other real items score at that n, "
        "which is no bound: with few of them others may score better"
    )


def _classes(results: list[Any]) -> None:
    """A row a class, a column a number of a set of its items."""
    columns: dict[str, dict[str, str]] = {}
    counts: dict[str, str] = {}
    for result in results:
        counts[result.class_] = f"{result.protocol['n_real']:,}"
        for metric, measured in result.measured.items():
            columns.setdefault(f"{result.label}, {_header(metric)}", {})[result.class_] = figure(measured)
    rows: list[list[object]] = [
        [name, n, *(column.get(name, "-") for column in columns.values())] for name, n in counts.items()
    ]
    emit_table("by class", ["class", "real", *columns], rows)


def _header(metric: str) -> str:
    """A measure's name and the direction in which it gets better: down, up, or to a value."""
    from raectl.metrics.reference import LOWER_IS_BETTER, TARGETS

    if metric in TARGETS:
        return f"{metric} → {TARGETS[metric]:g}"
    return metric + {True: " ↓", False: " ↑", None: ""}[LOWER_IS_BETTER.get(metric)]
