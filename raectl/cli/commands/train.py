"""`raectl train`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from raectl.cli import options as o
from raectl.cli.output import emit, number, say
from raectl.config import Config, read_toml
from raectl.errors import UsageError, command


@o.flags(Config, after="data")
def train(
    source: Annotated[
        str | None, typer.Argument(metavar="SOURCE", show_default=False, help="The same as --data SOURCE.")
    ] = None,
    data: Annotated[str | None, o.data(o.SOURCES, "digits", "--data", metavar="SOURCE")] = None,
    preset: Annotated[str | None, o.run("The paper's settings, such as mnist/rae-l2.", metavar="DATA/MODEL")] = None,
    config: Annotated[Path | None, o.run("Options from a file, by name.", metavar="FILE.toml")] = None,
    out: Annotated[Path | None, o.run("The checkpoint directory to make.", "ckpt")] = None,
    start: Annotated[
        Path | None,
        o.run(
            "Begin with the weights of another run, on other or more data; its options are kept, those of the data and "
            "the length aside.",
            False,
            "--from",
            metavar="CKPT",
        ),
    ] = None,
    resume: Annotated[bool, o.run("Go on in the directory.", True, "--resume")] = False,
    overwrite: Annotated[bool, o.run("Replace a checkpoint directory that exists.", True, "--overwrite")] = False,
    dry_run: Annotated[bool, o.run("Print the resolved options as JSON and stop.", True, "--dry-run")] = False,
    as_json: o.Json = False,
    debug: o.Debug = False,
    **flags: Any,
) -> None:
    """Train an autoencoder and leave a checkpoint directory; stopped at any moment, it can be resumed.

    Example: [bold]raectl train ./imgs --reg tikhonov --out ckpt[/]
    """
    from raectl.checkpoint.directory import Directory
    from raectl.cli.commands.presets import fit_arguments
    from raectl.training.resuming import resumed
    from raectl.training.starting import Start

    if resume and overwrite:
        raise UsageError("--resume and --overwrite exclude each other")
    if source is not None and data is not None:
        raise UsageError(f"the data are given twice: {source} and --data {data}", "name them once")
    typed = {"data": source if data is None else data, "out": out and str(out), **flags}
    typed = {name: value for name, value in typed.items() if value not in (None, [], ())}
    given, density = _merge(typed, preset, config, resume=resume)
    spec, directory = given.pop("data", None), Path(given.pop("out", "ckpt"))
    if resume and start is not None:
        raise UsageError("--from is for a new run, --resume goes on with one", "omit one of them")
    begun = None if start is None else Start.read(start, vars(Config.from_dict(given)), {*given})
    settings = begun.config if begun else resumed(Directory(directory), given) if resume else Config.from_dict(given)
    if dry_run:
        _dry_run(settings, spec, directory, begun, resume=resume)
        return
    if not resume and start is None and "reg" not in given:
        say("no regularizer of the decoder: --reg tikhonov is a good one, --reg none says that it is meant")
    _go(settings, spec, directory, begun, as_json=as_json, resume=resume, overwrite=overwrite)
    say("next: " + command("raectl", "fit-density", directory, *fit_arguments(density)))


def _merge(
    typed: dict[str, Any], preset: str | None, file: Path | None, *, resume: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of the preset, overridden by the file's, overridden by those typed; and the preset's density."""
    from raectl import presets

    read = read_toml(file) if file else {}
    for name in ("data", "out", "preset"):
        if not isinstance(read.get(name, ""), str):
            raise UsageError(f"{file}: {name} = {read[name]!r} is no text")
    in_file = read.pop("preset", None)
    preset = preset or in_file
    given: dict[str, Any] = {**(presets.options(preset) if preset else {}), **read, **typed}
    if preset and "data" not in given and not resume:
        given["data"] = presets.source(preset)
    return given, presets.PRESETS[preset].density if preset else {}


def _go(
    settings: Any, source: str | None, out: Path, start: Any, *, as_json: bool, resume: bool, overwrite: bool
) -> None:
    from raectl.cli.terminal import TerminalProgress
    from raectl.training.run import train as run

    with TerminalProgress() as progress:
        checkpoint = run(settings, source, out, start=start, progress=progress, resume=resume, overwrite=overwrite)
    log = checkpoint.directory.read_log()
    best = next((line for line in log if line["epoch"] == checkpoint.epoch), {})
    kind, losses = ("validation", best["validation"]) if best.get("validation") else ("training", best.get("train", {}))
    values = {
        "checkpoint": str(out),
        "epochs": len(log),
        "best_epoch": checkpoint.epoch,
        "train": best.get("train"),
        "validation": best.get("validation"),
        "seconds": sum(line["seconds"] for line in log),
        "decoder": checkpoint.decoder_name,
        "sharpened": asdict(checkpoint.sharpened) if checkpoint.sharpened else None,
    }
    rows = {
        "checkpoint": out,
        "best epoch" if best.get("best") else "last epoch": f"{checkpoint.epoch} of {len(log)}"
        if checkpoint.epoch or not log
        else f"none: the weights of {checkpoint.lineage[-1].checkpoint} stay",
        f"{kind} loss": number(losses.get("loss")),
        "  reconstruction": number(losses.get("reconstruction")),
    }
    emit(values, rows, as_json=as_json)


def _dry_run(config: Any, source: str | None, out: Path, start: Any, *, resume: bool) -> None:
    from raectl.checkpoint.directory import Directory
    from raectl.checkpoint.summary import DataSummary
    from raectl.cli.terminal import TerminalProgress
    from raectl.data import open_dataset
    from raectl.model.resolve import check, resolve
    from raectl.training.run import data_options

    if resume:
        summary = Directory(out).read_config().data
    else:
        check(config)
        with TerminalProgress() as progress:
            options = data_options(config, None if start is None else start.bits)
            dataset = open_dataset("digits" if source is None else source, options, progress)
            for note in dataset.notes:
                progress.note(note)
        config = resolve(config, dataset) if start is None else start.resolved(dataset)
        summary = DataSummary.of(dataset)
    emit({"out": str(out), "config": config.to_dict(), "data": asdict(summary)}, as_json=True)
