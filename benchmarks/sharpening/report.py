"""Tables of what compare.py measured: means over the seeds, and their smallest and largest values."""

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from timing import publish

SAMPLES = ("kernel", "precision", "coverage", "sharpness", "swd", "digits", "copied")
ERRORS = ("kernel", "mse", "sharpness")
DIGITS = {"kernel": 1, "digits": 1, "swd": 1, "mse": 5}
Results = dict[tuple[str, str], list[dict[str, Any]]]  # (row, of): a line a seed


def report(runs: Path) -> None:
    """Write results/sharpening.md."""
    by_data: dict[str, Results] = defaultdict(lambda: defaultdict(list))
    for line in map(json.loads, (runs / "results.jsonl").read_text().splitlines()):
        data, row, _, of = line["what"]
        by_data[data][row, of].append(line)
    command = "python benchmarks/sharpening/compare.py --report"
    publish("sharpening", command, "\n\n".join(_section(data, results) for data, results in by_data.items()))


def _section(data: str, results: Results) -> str:
    n = next(iter(results.values()))[0]["n"]
    samples = {key: lines for key, lines in results.items() if key[1] == "gmm-10"}
    rest = {key: lines for key, lines in results.items() if key[1] not in ("gmm-10", "reconstruction")}
    made = {key: lines for key, lines in results.items() if key[1] == "reconstruction"}
    parts = [
        f"## {data}, n = {n:,}",
        "Samples of 10 Gaussians",
        _table(samples, SAMPLES, with_density=False),
        "Reconstructions of the test images",
        _table(made, ERRORS, with_density=False),
    ]
    if rest:
        parts += ["Samples of other densities", _table(rest, SAMPLES, with_density=True)]
    return "\n\n".join(parts)


def _table(results: Results, metrics: tuple[str, ...], *, with_density: bool) -> str:
    known = [metric for metric in metrics if any(metric in line for lines in results.values() for line in lines)]
    head = ["", *(["density"] if with_density else []), "seeds", *known]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for (row, of), found in results.items():
        cells = [row, *([of] if with_density else []), str(len(found)), *(_cell(found, metric) for metric in known)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(lines: list[dict[str, Any]], metric: str) -> str:
    values = [line[metric] for line in lines if metric in line]
    if not values:
        return "-"
    digits = DIGITS.get(metric, 2)
    mean = f"{sum(values) / len(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.{digits}f} to {max(values):.{digits}f})"
