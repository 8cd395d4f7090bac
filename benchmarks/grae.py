"""The paper's table of Bayesian optimization on structured data: GRAE beside GVAE, several seeds of each.

    python benchmarks/grae.py --epochs 50 --seeds 1 2 3
    python benchmarks/grae.py --problem molecules --epochs 100 --seeds 1 2 3
    python benchmarks/grae.py --problem molecules --data FILE.smi --config benchmarks/grae-molecules-cpu.toml \
        --runs cpu-runs --epochs 20 --seeds 1 2 3

It runs the commands that it prints, and can be stopped at any moment and started again: a training run goes on where it
stopped, and a round that is done is not done again. The table goes to `benchmarks/results/grae.md`, or
`grae-molecules.md`. Molecules are those of MOSES (package molsets) unless others are given.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from raectl import presets
from raectl.checkpoint.directory import Directory

HERE = Path(__file__).parent


class Problem(NamedTuple):
    """What to train on, and the objective; the paper's row of each model, in the table's columns."""

    data: str
    objective: str
    page: str
    better: str
    config: Path | None
    settings: dict[str, tuple[object, ...]]
    published: dict[str, tuple[str, str, str]]


PROBLEMS = {
    "expressions": Problem(
        "expressions",
        "expressions",
        "grae.md",
        "lower",
        None,
        {"GRAE": ("--preset", "expressions/grae"), "GVAE": ("--preset", "expressions/gvae")},
        {"GRAE": ("1.00 ± .00", "3.22 ± .03", ".39 .39 .43"), "GVAE": (".99 ± .01", "3.26 ± .20", ".10 .46 .52")},
    ),
    "molecules": Problem(
        "molecules",
        "penalized-logp",
        "grae-molecules.md",
        "higher",
        HERE / "grae-molecules.toml",
        {"GRAE": ("--model", "rae"), "GVAE": ("--model", "cv-vae", "--sigma", 0.01)},
        {
            "GRAE": (".72 ± .09", "-5.62 ± .71", "3.74 3.52 3.14"),
            "GVAE": (".28 ± .04", "-7.89 ± 1.90", "3.13 3.10 2.37"),
        },
    ),
}


def main() -> None:
    """Parse the command line, train both models, optimize with every seed, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", choices=PROBLEMS, default="expressions")
    parser.add_argument("--data", help="other data than the problem's own")
    parser.add_argument("--config", type=Path, help="other settings of training than the problem's own")
    parser.add_argument("--runs", type=Path, default=Path("grae-runs"), help="where the checkpoints go")
    parser.add_argument("--epochs", type=int, default=presets.PRESETS["expressions/grae"].epochs)
    parser.add_argument("--width", type=int, help="of the networks, where it is not the preset's")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--points", type=int, default=5000)
    parser.add_argument("--inducing", type=int, default=200)
    options = parser.parse_args()
    problem = PROBLEMS[options.problem]
    keep_settings(options, parser)
    found: dict[str, list[Any]] = {}
    for model in problem.settings:
        path = options.runs / f"{options.problem}-{model.lower()}"
        train(problem, model, path, options)
        found[model] = [optimize(problem, path, seed, options) for seed in options.seeds]
    page = HERE / "results" / problem.page
    page.write_text(report(problem, found, options))
    print(page.read_text())


def keep_settings(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Refuse to go on with runs that were begun with other data or settings."""
    asked = {"data": options.data, "config": options.config and options.config.read_text(), "width": options.width}
    path = options.runs / f"{options.problem}.json"
    if path.exists() and json.loads(path.read_text()) != asked:
        parser.error(f"{options.runs} holds runs of other --data, --config or --width: give other --runs")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asked))


def train(problem: Problem, model: str, path: Path, options: argparse.Namespace) -> None:
    """Train a model, or go on with it."""
    if not path.exists():
        words = ("--width", options.width) if options.width else ()
        config = options.config or problem.config
        words = (*words, "--config", config) if config else words
        data = ("--data", options.data or problem.data, "--epochs", options.epochs, *words)
        raectl("train", *problem.settings[model], *data, "--out", path)
    elif len(Directory(path).read_log()) < options.epochs:
        raectl("train", "--resume", "--epochs", options.epochs, "--out", path)


def optimize(problem: Problem, path: Path, seed: int, options: argparse.Namespace) -> Any:
    """What `raectl optimize` says of a run, done now or before."""
    sizes = [word for name in ("rounds", "batch", "points", "inducing") for word in (f"--{name}", vars(options)[name])]
    told = raectl("optimize", path, "--objective", problem.objective, *sizes, "--seed", seed, "--json")
    return json.loads(told)


def report(problem: Problem, found: dict[str, list[Any]], options: argparse.Namespace) -> str:
    """The table, how it was made, and which of the two is better."""
    rows, averages = [], {}
    for model, runs in found.items():
        strings = {line["string"]: line["score"] for run in runs for line in run["best"]}
        ranked = sorted(strings.items(), key=lambda pair: pair[1], reverse=problem.better == "higher")[:3]
        averages[model] = [run["mean_of_others"] for run in runs]
        cells = [
            spread([run[name] for run in runs], n) for name, n in (("valid", 3), ("mean_of_others", 2), ("mean", 2))
        ]
        rows.append([model, *cells, " ".join(f"{score:.2f}" for _, score in ranked)])
        valid, average, best = problem.published[model]
        rows.append([f"{model}, the paper", valid, average, "", best])
        rows[-2].append(", ".join(f"`{text}`" for text, _ in ranked))
        rows[-1].append("")
    heads = ["", "valid", f"average score ({problem.better} is better)", "with what is not valid", "best three", ""]
    table = "\n".join(f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows))
    command = " ".join(["python benchmarks/grae.py", *sys.argv[1:]])
    data = [f"{run['data_best']:.2f}" for run in next(iter(found.values()))]
    return f"""    {command}

{table}

Training: {options.epochs} epochs. Seeds: {len(options.seeds)}.
Rounds: {options.rounds}, of {options.batch} points each, from {options.points:,} latents of the data at most, with
{options.inducing} inducing points. Mean ± standard deviation over seeds of one trained model each; the paper's are
standard errors over 5 runs. The average leaves out the points that score the worst there is, as the published one does.
The best of the data that the surrogate saw: {", ".join(data)}.

{verdict(problem, averages)}
"""


def verdict(problem: Problem, averages: dict[str, list[float | None]]) -> str:
    """A plain sentence."""
    known = {model: [value for value in values if value is not None] for model, values in averages.items()}
    if min(map(len, known.values())) < 2:
        return "Too few runs with a valid string to compare the two."
    means = {model: statistics.mean(values) for model, values in known.items()}
    error = sum(statistics.variance(values) / len(values) for values in known.values()) ** 0.5
    ahead = (means["GRAE"] - means["GVAE"]) * (-1 if problem.better == "lower" else 1)
    judged = "level with" if abs(ahead) < 2 * error else "better than" if ahead > 0 else "worse than"
    shown = f"{means['GRAE']:.2f} against {means['GVAE']:.2f}, standard error of the difference {error:.2f}"
    return f"By the average score, GRAE is {judged} GVAE here: {shown}."


def spread(values: list[float | None], digits: int) -> str:
    """Mean ± standard deviation."""
    known = [value for value in values if value is not None]
    deviation = statistics.stdev(known) if len(known) > 1 else 0.0
    return f"{statistics.mean(known):.{digits}f} ± {deviation:.{digits}f}" if known else "-"


def raectl(*arguments: object) -> str:
    """Run a command as a user would, say how long it took, and return what it printed."""
    command = [sys.executable, "-m", "raectl", *map(str, arguments)]
    print("$ raectl", *command[3:], flush=True)
    began = time.monotonic()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    print(f"  ({time.monotonic() - began:.0f} s)", flush=True)
    return done.stdout


if __name__ == "__main__":
    main()
