"""Table 1 from the lines of metrics.jsonl: Markdown for people, CSV for programs, and the paper's claims in figures."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raectl import load
from raectl.evaluation import comparing

if TYPE_CHECKING:
    from run import Row

COLUMNS = ("reconstruction", "n", "gmm", "interpolation")
HEADS = ("Rec", "N", "GMM", "Interp")
SHARPENED = ("gmm", "reconstruction", "n")  # columns that are measured of the sharpened decoder too
NOISY = ("VAE", "CV-VAE", "WAE")  # what the paper compares its models with

Lines = dict[str, dict[str, dict[str, Any]]]  # column, metric => line of metrics.jsonl


def write_report(rows: "Sequence[tuple[Row, Path]]", stem: Path) -> None:
    """Write STEM.md and STEM.csv."""
    measured = {row.title: _lines(row, path) for row, path in rows}
    seconds = {row.title: sum(line["seconds"] for line in load(path).directory.read_log()) for row, path in rows}
    first = measured[rows[0][0].title]
    floor = first["real"]
    protocol = floor["kernel"]
    text = [
        f"n = {protocol['n']:,} of everything against {protocol['n_real']:,} test items, seed {protocol['seed']}, "
        f"features {protocol['extractor']}. Lower is better. `real` is what training items score.",
        "",
        "Kernel distance, times 1000, and its standard error:",
        "",
        *_table(measured, lambda line: f"{1e3 * line['value']:.2f} ± {1e3 * line['se']:.2f}", "kernel"),
        "",
        f"real: {1e3 * protocol['value']:.2f} ± {1e3 * protocol['se']:.2f}",
        "",
        "Fréchet distance:",
        "",
        *_table(measured, lambda line: f"{line['value']:.2f}", "frechet"),
        "",
        f"real: {floor['frechet']['value']:.2f}",
        "",
        "Precision / recall of samples:",
        "",
        *_table(measured, None, "precision", "recall"),
        "",
        "Mean squared error of reconstructions (per value, in [0, 1]) and seconds of training:",
        "",
        "| | MSE | seconds |",
        "|---|---|---|",
        *(
            f"| {title} | {lines['reconstruction']['mse']['value']:.5f} | {seconds[title]:.0f} |"
            for title, lines in measured.items()
        ),
        "",
        *_sharpened(measured),
        *_claims(measured),
        "",
    ]
    stem.with_suffix(".md").write_text("\n".join(text), encoding="utf-8")
    with open(stem.with_suffix(".csv"), "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("model", "column", "metric", "value", "se", "n", "n_real", "seed", "extractor"))
        for title, lines in measured.items():
            for column, by_metric in lines.items():
                for metric, line in by_metric.items():
                    protocol = [line.get(key) for key in ("value", "se", "n", "n_real", "seed", "extractor")]
                    writer.writerow((title, column, metric, *protocol))
    print(f"{stem}.md, .csv and .png")


def _lines(row: "Row", path: Path) -> Lines:
    newest: dict[str, Lines] = {"plain": {}, "sharp": {}}
    for line in comparing.records(load(path)):
        newest[line["decoder"]].setdefault(line["of"], {})[line["metric"]] = line
    columns = {column: getattr(row, column) for column in COLUMNS} | {"real": "real"}
    found = {column: newest["plain"][of] for column, of in columns.items() if of in newest["plain"]}
    sharp = {f"sharpened {column}": newest["sharp"].get(getattr(row, column), {}) for column in SHARPENED}
    return {**found, **{name: lines for name, lines in sharp.items() if lines}}


def _table(measured: dict[str, Lines], show: Any, *metrics: str) -> list[str]:
    show = show or (lambda *lines: " / ".join(f"{line['value']:.2f}" for line in lines))
    rows = ["| | " + " | ".join(HEADS) + " |", "|---" * (len(HEADS) + 1) + "|"]
    for title, lines in measured.items():
        cells = [show(*(lines[c][m] for m in metrics)) if c in lines else "-" for c in COLUMNS]
        rows.append(f"| {title} | " + " | ".join(cells) + " |")
    return rows


def _sharpened(measured: dict[str, Lines]) -> list[str]:
    """What sharpening changes, where rows are sharpened."""
    rows = {title: lines for title, lines in measured.items() if "sharpened reconstruction" in lines}
    if not rows:
        return []
    names = [name.removeprefix("sharpened ") for lines in rows.values() for name in lines if "sharpened" in name]
    heads = [f"{HEADS[COLUMNS.index(name)]}, sharpened" for name in dict.fromkeys(names)]
    text = ["Sharpened, kernel distance, times 1000; then the squared error of reconstructions:", ""]
    text += ["| | " + " | ".join([*heads, "MSE, plain", "MSE, sharpened"]) + " |", "|---" * (len(heads) + 3) + "|"]
    for title, lines in rows.items():
        cells = []
        for name in dict.fromkeys(names):
            line = lines.get(f"sharpened {name}", {}).get("kernel")
            cells.append(f"{1e3 * line['value']:.2f} ± {1e3 * line['se']:.2f}" if line else "-")
        errors = (lines[key]["mse"]["value"] for key in ("reconstruction", "sharpened reconstruction"))
        text.append("| " + " | ".join([title, *cells, *(f"{error:.5f}" for error in errors)]) + " |")
    return [*text, ""]


def _claims(measured: dict[str, Lines]) -> list[str]:
    """The paper's three claims, in kernel distances and the standard errors of their differences."""
    kernel = {
        title: {c: (lines[c]["kernel"]["value"], lines[c]["kernel"]["se"]) for c in COLUMNS if c in lines}
        for title, lines in measured.items()
    }
    gains = {title: _gap(row["n"], row["gmm"]) for title, row in kernel.items() if "gmm" in row}
    ratios = {title: row["n"][0] / row["gmm"][0] for title, row in kernel.items() if "gmm" in row}
    text = [
        "(a) GMM below N, in standard errors of the difference: "
        + ", ".join(f"{title} {gain:+.1f}" for title, gain in gains.items())
        + f". More than two for {sum(gain > 2 for gain in gains.values())} of {len(gains)}."
    ]
    ours = [title for title in kernel if title.startswith("RAE")]
    noisy = [title for title in NOISY if title in kernel]
    if ours and noisy:
        best = []
        for column, head in zip(COLUMNS, HEADS, strict=True):
            a, b = (min(group, key=lambda t: kernel[t][column][0]) for group in (ours, noisy))
            best.append(f"{head}: {a} against {b} {_gap(kernel[b][column], kernel[a][column]):+.1f}")
        text += ["", "(b) best RAE below the best of " + ", ".join(noisy) + ", likewise: " + "; ".join(best) + "."]
    text += ["", "(c) N over GMM: " + ", ".join(f"{title} {ratio:.2f}" for title, ratio in ratios.items()) + "."]
    return text


def _gap(first: tuple[float, float], second: tuple[float, float]) -> float:
    """first - second in standard errors of the difference, taken as independent."""
    return (first[0] - second[0]) / (first[1] ** 2 + second[1] ** 2) ** 0.5
