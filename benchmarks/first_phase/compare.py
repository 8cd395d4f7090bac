"""What the first phase's parts give on emoji and photographs, in equal seconds of one core.

    OMP_NUM_THREADS=1 python benchmarks/first_phase/compare.py emoji --data emoji64.zip --seeds 0 1 2
    OMP_NUM_THREADS=1 python benchmarks/first_phase/compare.py photographs --data photographs --seeds 0 1 2
    python benchmarks/first_phase/compare.py --report

Each row is `raectl train` as a user runs it, ended by Ctrl-C when its process has used `--seconds` of CPU time; the
weights are those of the best whole epoch. Then `fit-density`, for each density. Splits and judges are those of
sharpening/compare.py: test images were neither trained on nor held out, and of photographs whole ones are the test's.
What is trained or judged is not done twice; results are lines of RUNS/results.jsonl.
"""

import argparse
import json
import signal
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "sharpening")]
from compare import DATA, Judge, command  # noqa: E402  # of sharpening/
from judges import grid_energy  # noqa: E402
from timing import publish  # noqa: E402

import raectl  # noqa: E402

COMMON = ("--reg", "tikhonov", "--width", "16", "--batch-size", "50", "--precision", "fp32", "--device", "cpu")
ROWS = {
    "Adam": ("--optimizer", "adam", "--average", "0", "--augment", "off", "--arch", "conv64"),
    "Muon, average": ("--augment", "off", "--arch", "conv64"),
    "and linear-conv": ("--augment", "off", "--arch", "linear-conv"),
    "and flip,shift": ("--augment", "flip,shift", "--arch", "linear-conv"),
}
DENSITIES = {"gmm-10": ("gmm,components=10",), "gmm": ("gmm",), "student-t": ("student-t",)}
COLUMNS = ("kernel", "precision", "coverage", "sharpness", "copied", "grid")


def main() -> None:
    """Parse the command line; train and judge what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", choices=["emoji", "photographs"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--rows", nargs="*", default=[*ROWS])
    parser.add_argument("--seconds", type=float, default=300, help="of CPU time, of each training")
    parser.add_argument("--runs", type=Path, default=Path("first-phase-runs"))
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    if options.report:
        report(options.runs)
        return
    runs = options.runs / options.name
    runs.mkdir(parents=True, exist_ok=True)
    source, test = DATA[options.name].open(options.data, runs)
    judge = GridJudge(options.name, options.data, test, runs)
    for seed in options.seeds:
        for row in options.rows:
            path = runs / f"{row.replace(' ', '-').replace(',', '')}-{seed}"
            if not path.exists():
                train(source, ROWS[row], path, seed, options.seconds)
            present = raectl.load(path, "cpu").densities()
            for name, density in DENSITIES.items():
                if name not in present:
                    command("fit-density", path, "--density", *density, "--seed", seed, "--name", name)
            judge.checkpoint(row, path, seed)


def train(source: Path, options: tuple[str, ...], path: Path, seed: int, seconds: float) -> None:
    """Train until the process has used so many seconds, then press Ctrl-C."""
    told = [*COMMON, *options, "--epochs", "100000", "--patience", "0", "--seed", str(seed), "--out", str(path)]
    print("$ raectl train", *told, flush=True)
    process = subprocess.Popen([sys.executable, "-m", "raectl", "train", str(source), *told])
    while process.poll() is None and used(process.pid) < seconds:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    if process.wait() != 130:
        raise SystemExit(f"training {path} ended by itself")


def used(pid: int) -> float:
    """Seconds of CPU time of a process, all threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


class GridJudge(Judge):
    """The judges of sharpening/, and the energy at the frequencies of the decoder's grid."""

    def _measures(self, items: Any, error: bool) -> Any:
        yield from super()._measures(items, error)
        yield "grid", grid_energy(self.real, items)


def report(runs: Path) -> None:
    """Tables of all results, means over seeds with the least and the largest."""
    found: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for line in (runs / "results.jsonl").read_text().splitlines():
        result = json.loads(line)
        data, row, _, of = result["what"]
        found[data, of][row].append(result)
    lines = []
    for (data, of), rows in found.items():
        columns = ("kernel", "mse", "sharpness", "grid") if of == "reconstruction" else COLUMNS
        n = next(iter(rows.values()))[0]["n"]
        lines += [
            f"\n{data}, {of}, n = {n}\n",
            f"| | seeds | {' | '.join(columns)} |",
            "|" + "---|" * (len(columns) + 2),
        ]
        for row, results in rows.items():
            lines.append(f"| {row} | {len(results)} | {' | '.join(shown(results, key) for key in columns)} |")
    publish("first-phase", "python benchmarks/first_phase/compare.py --report", "\n".join(lines))


def shown(results: list[dict[str, Any]], key: str) -> str:
    """The mean, and the range of several."""
    values = [result[key] for result in results]
    form = ".0f" if key == "kernel" else ".5f" if key == "mse" else ".2f"
    mean = f"{statistics.mean(values):{form}}"
    return mean if len(values) == 1 else f"{mean} ({min(values):{form}} to {max(values):{form}})"


if __name__ == "__main__":
    main()
