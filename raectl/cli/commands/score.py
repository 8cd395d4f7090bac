"""`raectl score`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from raectl.cli import options as o
from raectl.cli.output import emit, emit_table, number, say
from raectl.errors import UsageError

if TYPE_CHECKING:
    from raectl.data import Dataset
    from raectl.detection.scoring import Scored


def score(
    ckpt: o.CheckpointDir,
    data: o.OptionalSource = None,
    out: Annotated[
        Path | None,
        o.out("A table, a row an item: .csv, .jsonl, .parquet, or - for CSV on stdout.", None, "--out", "-o"),
    ] = None,
    flag: Annotated[
        str | None,
        o.model(
            "Share of typical items that may be called odd, as 1% or 0.01.",
            "1%, or what few held-out items tell apart",
            metavar="SHARE",
        ),
    ] = None,
    density: o.DensityName = None,
    reference: Annotated[
        str | None,
        o.data(
            "Typical items that the model has not seen, to calibrate scores by.",
            "those held out of the training",
            metavar="SOURCE",
        ),
    ] = None,
    cross_fit: Annotated[
        int | None,
        o.model("Score the training data themselves, each part by one of K models trained without it.", metavar="K"),
    ] = None,
    normal: Annotated[
        str | None,
        o.data("Class of typical items: how well those of other classes are told from them.", metavar="CLASS"),
    ] = None,
    picture: Annotated[
        Path | None, o.out("A picture of the oddest and the most typical items, and of where they are odd.")
    ] = None,
    heatmaps: Annotated[
        Path | None, o.out("A directory for a picture of each item, red where it is odd.", metavar="DIR")
    ] = None,
    strict: Annotated[bool, o.flag("strict", panel="Data")] = False,
    bands: o.Bands = None,
    device: o.Device = "auto",
    as_json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Tell odd items from typical ones: reconstruction error and latent density, calibrated on held-out items.

    Example: [bold]raectl score ckpt --data ./new-imgs -o scores.csv[/]
    """
    from raectl.checkpoint.checkpoint import load
    from raectl.checkpoint.sharpened import PLAIN
    from raectl.cli.terminal import TerminalProgress
    from raectl.detection.pictures import Pictures, check_heatmaps
    from raectl.detection.scoring import Scoring
    from raectl.detection.table import STDOUT, check_table
    from raectl.storage.atomic import require_outside

    if out == STDOUT and as_json:
        raise UsageError("-o - and --json both write to stdout", "omit one of them")
    if out not in (None, STDOUT):
        check_table(out)
    o.check_bands(bands, picture, heatmaps)
    share = None if flag is None else _share(flag)
    checkpoint = load(ckpt, device, PLAIN, bands)
    if heatmaps is not None:
        check_heatmaps(checkpoint, heatmaps)
    if picture is not None:
        checkpoint.modality.writer.check_rows(picture)
    with TerminalProgress() as progress:
        dataset = checkpoint.open_data(data, progress, None if data is None or strict else 1.0, strict)
        for path in filter(None, (out, picture, heatmaps)):
            for source in (dataset.source, checkpoint.data.source):
                if path != STDOUT:
                    require_outside(path, source)
        scoring = Scoring(
            checkpoint,
            dataset,
            density=density,
            reference=reference,
            flag=share,
            normal=normal,
            cross_fit=cross_fit,
            progress=progress,
        )
        pictures = Pictures(dataset, scoring.models, progress)
        scored = scoring.run(out)
        if picture is not None:
            pictures.write_oddest(picture, scored.score)
        if heatmaps is not None:
            pictures.write_heatmaps(heatmaps)
    _show(scored, dataset, out, is_cross=cross_fit is not None, as_json=as_json, quiet=out == STDOUT)


def _share(text: str) -> float:
    """A share typed as 1% or 0.01."""
    number, percent, rest = text.strip().partition("%")
    try:
        if rest:
            raise ValueError
        return float(number) / (100 if percent else 1)
    except ValueError as error:
        raise UsageError(f"--flag {text!r} is no share", "--flag 1%") from error


def _show(
    scored: "Scored", dataset: "Dataset", out: Path | None, *, is_cross: bool, as_json: bool, quiet: bool
) -> None:
    """The oddest items, how many are flagged, and how much that tells."""
    areas = {} if scored.ranking is None else scored.ranking._asdict()
    values = {
        **{"out": out and str(out), "source": dataset.source, "n": scored.n, "bad": scored.bad, "odd": scored.odd},
        **{"flag": scored.flag, "typical": scored.typical},
        **{"trained_on": scored.seen and scored.seen.trained_on, "held_out": scored.seen and scored.seen.held_out},
        **{name: {"value": m.value, "low": m.low, "high": m.high} for name, m in areas.items()},
        "oddest": [{"path": row.path, "score": row.score, "percentile": row.percentile} for row in scored.oddest],
    }
    if as_json:
        emit(values, as_json=True)
    elif not quiet:
        rows: list[list[object]] = [
            [row.path, number(row.score, 2), number(row.percentile, 2), number(row.error), number(row.log_density, 1)]
            for row in scored.oddest
        ]
        emit_table("the oddest", ["item", "score", "percentile", "error", "log-density"], rows)
        shown = {name: f"{m.value:.4f} (95 % interval {m.low:.4f} to {m.high:.4f})" for name, m in areas.items()}
        share = f"{100 * scored.flag:.3g} %"
        told = f"the oddest {share}" if is_cross else f"of typical items about {share} would be"
        odd = f"{scored.odd:,} of {scored.n:,} are flagged; {told}"
        emit({}, {"odd": odd, **({"table": out} if out else {}), **shown}, as_json=False)
    what = "items themselves, each scored by a model that has not seen it" if is_cross else "items not trained on"
    say(f"percentiles are among {scored.typical:,} {what}, so in steps of {100 / scored.typical:.2g}")
    if scored.seen and scored.seen.trained_on:
        say(
            f"note: {scored.seen.trained_on:,} of {scored.n:,} items were trained on and seem more typical than new "
            "ones would; --cross-fit 5 scores each by a model that has not seen it"
        )
    if scored.bad:
        say(f"note: {scored.bad:,} {'item' if scored.bad == 1 else 'items'} could not be read; the table says why")
