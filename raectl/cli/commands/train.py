"""`raectl train`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from raectl.cli import options as o


def train(
    context: typer.Context,
    source: Annotated[
        str | None, typer.Argument(metavar="SOURCE", show_default=False, help="The same as --data SOURCE.")
    ] = None,
    data: Annotated[str | None, o.data(o.SOURCES, "digits", "--data", metavar="SOURCE")] = None,
    image_size: o.ImageSize = None,
    fit: o.Fit = None,
    range: o.Range = None,
    alpha: o.Alpha = None,
    background: o.Background = None,
    max_bad: o.MaxBad = None,
    strict: o.Strict = None,
    grammar: o.Grammar = None,
    max_productions: o.MaxProductions = None,
    val_fraction: Annotated[float | None, o.data("Share held out for validation.", "0.1")] = None,
    model: Annotated[str | None, o.model(f"{o.known('model')}.", "rae")] = None,
    reg: Annotated[
        list[str] | None,
        o.model(f"Regularizer of the decoder, repeatable: {o.known('regularizer')}.", "none", metavar="NAME[=WEIGHT]"),
    ] = None,
    gp_form: Annotated[
        str | None,
        o.model("The gradient penalty's form: exact (Frobenius norm) or released (the paper's code).", "exact"),
    ] = None,
    gp_part: Annotated[
        float | None,
        o.model("How much of each batch the exact gradient penalty is estimated on: no bias, less time.", "0.25"),
    ] = None,
    sn_view: Annotated[
        str | None,
        o.model(
            "Spectral norm's matrix view of transposed convolutions: torch or released (the paper's code).", "torch"
        ),
    ] = None,
    sn_encoder: Annotated[bool | None, o.model("Spectral norm of the encoder too.", "off", "--sn-encoder")] = None,
    reconstruction: Annotated[
        str | None,
        o.model(
            f"Reconstruction term of the loss: {o.known('reconstruction')}. l1 is sharper for images that are nearly "
            "two-valued; its options are start (250) and length (500), in steps.",
            "l2 for images, cross-entropy for strings",
            metavar="NAME[,OPTION=VALUE...]",
        ),
    ] = None,
    beta: Annotated[float | None, o.model("Weight of the latent term.", "the model's")] = None,
    sigma: Annotated[float | None, o.model("Standard deviation of the code of cv-vae.", "0.7")] = None,
    importance_samples: Annotated[int | None, o.model("Draws of the code an item of iwae.", "5", metavar="K")] = None,
    latent_dim: Annotated[
        int | None,
        o.model("Latent dimensions.", "16 for grey images, 64 for colour; 25 or 56 for short or long strings"),
    ] = None,
    arch: Annotated[
        str | None, o.model(f"{o.known('architecture')}.", "by the data: conv32 up to 32 pixels, else conv64")
    ] = None,
    width: Annotated[int | None, o.model("Filters of the first layer (the paper: 128).", "32")] = None,
    epochs: Annotated[int | None, o.training("Epochs in all, also when resuming.", "50")] = None,
    batch_size: Annotated[
        int | None, o.training("Items a step, at most.", "a twentieth of the items, from 16 to 100")
    ] = None,
    sharpen: Annotated[
        bool | None,
        o.training("A second phase, in which a critic sharpens the decoder; see raectl sharpen.", "off", "--sharpen"),
    ] = None,
    lr: Annotated[float | None, o.training("Adam's learning rate.", "0.001")] = None,
    seed: Annotated[int | None, o.training("Seed of everything random.", "0")] = None,
    device: Annotated[str | None, o.training("auto, cpu, cuda, cuda:N or mps.", "auto")] = None,
    precision: Annotated[str | None, o.training("auto (bf16 where fast), fp32 or bf16.", "auto")] = None,
    preset: Annotated[str | None, o.run("The paper's settings, such as mnist/rae-l2.", metavar="DATA/MODEL")] = None,
    config: Annotated[Path | None, o.run("Options from a file, by name.", metavar="FILE.toml")] = None,
    out: Annotated[Path | None, o.run("The checkpoint directory to make.", "ckpt")] = None,
    resume: Annotated[bool, o.run("Go on in the directory.", True, "--resume")] = False,
    overwrite: Annotated[bool, o.run("Replace a checkpoint directory that exists.", True, "--overwrite")] = False,
    dry_run: Annotated[bool, o.run("Print the resolved options as JSON and stop.", True, "--dry-run")] = False,
    as_json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Train an autoencoder and leave a checkpoint directory; stopped at any moment, it can be resumed.

    Example: [bold]raectl train ./imgs --reg tikhonov --out ckpt[/]
    """
    from dataclasses import fields

    from raectl.checkpoint.directory import Directory
    from raectl.cli.commands.presets import fit_arguments
    from raectl.cli.output import say
    from raectl.config import Config
    from raectl.errors import UsageError, command
    from raectl.training.resuming import resumed

    if resume and overwrite:
        raise UsageError("--resume and --overwrite exclude each other")
    if source is not None and data is not None:
        raise UsageError(f"the data are given twice: {source} and --data {data}", "name them once")
    local = {**context.params, "data": source if data is None else data}
    names = ("data", "out", *(field.name for field in fields(Config)))
    typed = {name: local[name] for name in names if local.get(name) not in (None, [], ())}
    given, density = _merge(typed, local, preset, config)
    spec, directory = given.pop("data", None), Path(given.pop("out", "ckpt"))
    _merge_regularizers(given, directory if resume else None)
    settings = resumed(Directory(directory), given) if resume else Config.from_dict(given)
    if dry_run:
        _dry_run(settings, spec, directory, resume=resume)
        return
    if not resume and "reg" not in given:
        say("no regularizer of the decoder: --reg tikhonov is a good one, --reg none says that it is meant")
    _go(settings, spec, directory, as_json=as_json, resume=resume, overwrite=overwrite)
    say("next: " + command("raectl", "fit-density", directory, *fit_arguments(density)))


def _merge(
    typed: dict[str, Any], local: dict[str, Any], preset: str | None, file: Path | None
) -> tuple[dict[str, Any], Any]:
    """Options of the preset, overridden by the file's, overridden by those typed; and the preset's density."""
    from raectl import presets
    from raectl.config import REGULARIZER_OPTIONS, read_toml
    from raectl.errors import UsageError

    read = read_toml(file) if file else {}
    for name in ("data", "out", "preset"):
        if not isinstance(read.get(name, ""), str):
            raise UsageError(f"{file}: {name} = {read[name]!r} is no text")
    in_file = read.pop("preset", None)
    preset = preset or in_file
    given: dict[str, Any] = {**(presets.options(preset) if preset else {}), **read, **typed}
    given |= {name: local[name] for name in REGULARIZER_OPTIONS if local[name] is not None}
    if preset and "data" not in given and not local["resume"]:
        given["data"] = presets.source(preset)
    return given, presets.PRESETS[preset].density if preset else {}


def _merge_regularizers(given: dict[str, Any], begun: Path | None) -> None:
    """Move the options of regularizers into `reg`, where `Config` has them; when resuming, beside the stored ones."""
    from raectl.checkpoint.directory import Directory
    from raectl.config import REGULARIZER_OPTIONS, Config, option
    from raectl.errors import UsageError

    asked = {name: given.pop(name) for name in REGULARIZER_OPTIONS if name in given}
    if "reg" in given or asked:
        stored = Directory(begun).read_config()[0].reg if begun and "reg" not in given else {}
        given["reg"] = Config(reg=given.get("reg", stored)).reg
    for name, value in asked.items():
        regularizer, key = REGULARIZER_OPTIONS[name]
        if regularizer not in given["reg"]:
            what = f"{option(name)} needs --reg {regularizer}"
            if begun:
                raise UsageError(f"{what}; {begun} was begun with --reg {', '.join(given['reg']) or 'none'}")
            raise UsageError(what, f"--reg {regularizer}")
        given["reg"] = {**given["reg"], regularizer: {**given["reg"][regularizer], key: value}}


def _go(settings: Any, source: str | None, out: Path, *, as_json: bool, resume: bool, overwrite: bool) -> None:
    from dataclasses import asdict

    from raectl.cli.output import emit, number
    from raectl.cli.terminal import TerminalProgress
    from raectl.training.run import train as run

    with TerminalProgress() as progress:
        checkpoint = run(settings, source, out, progress=progress, resume=resume, overwrite=overwrite)
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
        "best epoch" if best.get("best") else "last epoch": f"{checkpoint.epoch} of {len(log)}",
        f"{kind} loss": number(losses.get("loss")),
        "  reconstruction": number(losses.get("reconstruction")),
    }
    emit(values, rows, as_json=as_json)


def _dry_run(config: Any, source: str | None, out: Path, *, resume: bool) -> None:
    from dataclasses import asdict

    from raectl.checkpoint.directory import Directory
    from raectl.checkpoint.summary import DataSummary
    from raectl.cli.output import emit
    from raectl.cli.terminal import TerminalProgress
    from raectl.data import open_dataset
    from raectl.model.resolve import check, resolve
    from raectl.training.run import data_options

    if resume:
        summary = Directory(out).read_config()[1]
    else:
        check(config)
        with TerminalProgress() as progress:
            dataset = open_dataset("digits" if source is None else source, data_options(config), progress)
            for note in dataset.notes:
                progress.note(note)
        config, summary = resolve(config, dataset), DataSummary.of(dataset)
    emit({"out": str(out), "config": config.to_dict(), "data": asdict(summary)}, as_json=True)
