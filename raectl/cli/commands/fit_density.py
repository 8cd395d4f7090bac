"""`raectl fit-density`."""

from pathlib import Path
from typing import Annotated, Any

from raectl import registry
from raectl.cli import options as o
from raectl.cli.output import emit, emit_table, number, say
from raectl.config import FORM, parse
from raectl.errors import UsageError, command


def fit_density(
    ckpt: o.CheckpointDir,
    density: Annotated[
        str,
        o.model(
            f"{registry.known('density')}; NAME,help lists its keys.",
            True,
            "--density",
            metavar=FORM,
            callback=o.component_help("density"),
            is_eager=True,
        ),
    ] = "gmm",
    components: Annotated[
        str | None,
        o.model(
            "Number of mixture components (vae: of the mixture over its own codes); auto: by held-out log-likelihood.",
            "auto for gmm and student-t",
            metavar="K|auto",
        ),
    ] = None,
    covariance: Annotated[str | None, o.model("full, tied, diag or spherical.", "full")] = None,
    per_class: Annotated[
        bool, o.model("A density for each class of the data, and the shares of the classes.", True, "--per-class")
    ] = False,
    name: Annotated[
        str | None, o.model("Name to store the density under: a-z, 0-9, '.', '_', '-'.", "KIND, or KIND-K")
    ] = None,
    data: o.OptionalSource = None,
    latents: Annotated[
        Path | None,
        o.data(
            "Latents (N, d) of any encoder, .npy or .npz; CKPT is then a new directory that holds only densities.",
            metavar="FILE.npy",
        ),
    ] = None,
    seed: o.Seed = 0,
    max_bad: o.OtherMaxBad = None,
    device: o.Device = "auto",
    as_json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Fit a density to a checkpoint's latents, or to any encoder's, and report the log-likelihood of held-out ones.

    Example: [bold]raectl fit-density ckpt[/]
    """
    from raectl.checkpoint import densities as fitted
    from raectl.cli.terminal import TerminalProgress
    from raectl.densities import fitting

    if name is not None:
        fitted.check_name(name)
    kind, options = parse("density", density)
    flags = {"components": _components(components), "covariance": covariance}
    for key in [key for key, value in flags.items() if value is not None]:
        if key in options:
            raise UsageError(f"{key} is given twice: by --density {density}, and by --{key}", "give it once")
        options[key] = flags[key]
    fitting.check_options(kind, options)
    with TerminalProgress() as progress:
        if latents is None:
            from raectl.checkpoint.checkpoint import load

            progress.note(f"encoding the data of {ckpt}")
            checkpoint = load(ckpt, device, "plain")
            fit = checkpoint.fit_density(
                kind, data, name=name, seed=seed, per_class=per_class, max_bad=max_bad, progress=progress, **options
            )
            out = f"samples{checkpoint.modality.writer.suffixes[0]}"
        else:
            if data is not None or max_bad is not None:
                raise UsageError(f"--latents and {'--data' if data else '--max-bad'} exclude each other")
            fit = fitted.fit_latents(
                ckpt, latents, kind, name=name, seed=seed, per_class=per_class, progress=progress, **options
            )
            out = "new-latents.npy"
    _print(fit, name or fit.default_name, ckpt, out, as_json=as_json)


def _components(text: str | None) -> int | str | None:
    if text is None or text == "auto":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--components {text!r} is neither a number above 0 nor auto", "--components 10")
    return int(text)


def _print(fit: Any, name: str, ckpt: Path, out: str, *, as_json: bool) -> None:
    stats = fit.density.stats
    if fit.classes and not as_json:
        emit_table("classes, in nats per dimension", ["class", "n", "components", "shrinkage", "train", "held out"], [
            [
                r["class"], f"{r['n']:,}", "-" if r["components"] is None else r["components"], f"{r['shrinkage']:,}",
                number(r["train"]), "-" if r["held_out"] is None else number(r["held_out"]),
            ]
            for r in fit.classes
        ])  # fmt: skip
    if fit.tried and not as_json:
        heads = ["components", "shrinkage", "train", "held out", "BIC"]
        tried = [
            [
                r["components"], f"{r.get('shrinkage', 0):g}",
                number(r["train"]), number(r["heldout"]), number(r.get("bic"), 0),
            ]
            for r in fit.tried
        ]  # fmt: skip
        emit_table("tried, in nats per dimension", heads, tried)
    values = {
        "density": name,
        "kind": fit.kind,
        "options": fit.options,
        "seed": fit.seed,
        "nats_per_dimension": {"train": fit.train, "held_out": fit.held_out},
        "bound": fit.density.log_prob_is_bound,
        "n": {"train": fit.n_train, "held_out": fit.n_held_out},
        "stats": stats,
        "notices": fit.density.notices,
        "tried": fit.tried,
        "classes": fit.classes,
    }
    least = "at least " if fit.density.log_prob_is_bound else ""
    unseen = "-" if fit.held_out is None else f"{least}{number(fit.held_out)}"
    rows = {
        "density": name,
        "log-likelihood, train": f"{least}{number(fit.train)} nats per dimension, n = {fit.n_train:,}",
        "log-likelihood, held out": f"{unseen} nats per dimension, n = {fit.n_held_out:,}",
        "BIC": f"{stats['bic']:,.0f}" if "bic" in stats else "-",
    }
    if shrinkage := fit.options.get("shrinkage"):
        rows["shrinkage"] = f"{shrinkage:g} latents"
    if (fit.held_out or 0) > 0:
        rows["above 0"] = "no error: a density exceeds 1 where latents are close together"
    if "best_epoch" in stats:
        rows["epochs"] = f"{stats['epochs']}, the best of them {stats['best_epoch']}"
    if "iterations" in stats:
        converged = "converged" if stats["converged"] else "NOT converged"
        rows["iterations"] = f"{stats['iterations']}, {converged}"
    emit(values, rows, as_json=as_json)
    for notice in fit.density.notices:
        say(f"warning: {notice}", style="yellow")
    how_many = ("--per-class", 8) if fit.classes else ("-n", 64)
    say("next: " + command("raectl", "sample", ckpt, *how_many, "-o", out))
