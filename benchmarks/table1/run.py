"""The paper's Table 1: train every row, fit every density, measure every column, write the table and the picture.

    python benchmarks/table1/run.py --scale small --data mnist TRAIN TEST --data emoji TRAIN TEST
    python benchmarks/table1/run.py --scale paper --data mnist TRAIN TEST --data celeba TRAIN TEST

It runs the commands that it prints, and can be stopped at any moment and started again: what is trained, fitted or
measured is not done twice, and a training run goes on where it stopped. `--scale small` shortens every run alike
(`small-NAME.toml`), for an afternoon on two CPU cores; `paper` takes the presets as they are, for a GPU. Results go to
`benchmarks/table1/results/SCALE-NAME.md`, `.csv` and `.png`.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from report import write_report

from raectl import load, presets
from raectl.checkpoint import densities as fitted
from raectl.checkpoint.directory import Directory
from raectl.config import text_of
from raectl.evaluation import comparing

HERE = Path(__file__).parent


class Row(NamedTuple):
    """A row of Table 1: which preset it is, what is fitted to its latents, and under which names it is measured."""

    title: str
    preset: str
    densities: tuple[str, ...] = ("gmm",)
    reconstruction: str = "reconstruction"
    n: str = "N"
    gmm: str | None = "gmm-10"
    interpolation: str = "interpolation"


# fmt: off
ROWS = (
    Row("VAE",    "vae", ("gmm", "vae")),
    Row("CV-VAE", "cv-vae"),
    Row("WAE",    "wae"),
    Row("2sVAE",  "vae", (), "reconstruction by vae", "vae", None, "interpolation by vae"),  # the VAE's second stage
    Row("RAE-GP", "rae-gp"),
    Row("RAE-L2", "rae-l2"),
    Row("RAE-SN", "rae-sn"),
    Row("RAE",    "rae"),
    Row("AE",     "ae"),
    Row("AE-L2",  "ae-l2"),
)
# fmt: on
PRESETS = {"emoji": "celeba"}  # data that take another's presets
SHORTER = {("small", "vae"): {"epochs": 10, "lr": 5e-4}}  # of a density; at `paper` scale the defaults are the paper's


def main() -> None:
    """Parse the command line and make a table for each set of data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=("small", "paper"), default="small")
    parser.add_argument("--data", nargs=3, action="append", required=True, metavar=("NAME", "TRAIN", "TEST"))
    parser.add_argument("--runs", type=Path, default=Path("table1-runs"), help="where the checkpoints go")
    parser.add_argument("--n", type=int, default=10_000, help="samples, and real items, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sharpen", action="store_true", help="sharpen each row, with a column for its samples")
    parser.add_argument("--rows", nargs="*", choices=[row.title for row in ROWS], help="only these")
    options = parser.parse_args()
    rows = [row for row in ROWS if options.rows is None or row.title in options.rows]
    for name, train, test in options.data:
        paths = {row.title: options.runs / options.scale / name / f"{row.preset}-{options.seed}" for row in rows}
        for row in rows:
            make(row, name, train, paths[row.title], options.scale, options.seed)
            if options.sharpen and not Directory(paths[row.title]).sharp_decoder.exists():
                begun = ("--resume",) if Directory(paths[row.title]).sharpening.exists() else ()
                raectl("sharpen", paths[row.title], *begun)
        for row in rows:
            for decoder in ("plain", "sharp") if options.sharpen else ("plain",):
                measure(row, paths[row.title], test, options.n, options.seed, decoder)
        stem = HERE / "results" / (f"{options.scale}-{name}" + "-sharpened" * options.sharpen)
        stem.parent.mkdir(exist_ok=True)
        distinct = list(dict.fromkeys(str(path) for path in paths.values()))
        raectl("compare", *distinct, "--data", test, "--out", f"{stem}.png", "--seed", options.seed)
        write_report([(row, paths[row.title]) for row in rows], stem)


def make(row: Row, name: str, train: str, path: Path, scale: str, seed: int) -> None:
    """Train a row, or go on with it, and fit its densities."""
    state, family = Directory(path), PRESETS.get(name, name)
    if not path.exists():
        settings = HERE / f"{scale}-{name}.toml"
        changes = ("--config", settings) if settings.exists() else ()
        raectl("train", "--preset", f"{family}/{row.preset}", *changes, "--data", train, "--seed", seed, "--out", path)
    elif len(state.read_log()) < state.read_config().resolved.epochs:
        raectl("train", "--resume", "--out", path)
    encoder = load(path, "cpu", "plain").encoder
    present = {entry.kind for entry in fitted.list_fitted(state) if entry.encoder == encoder}
    for kind in row.densities:
        if kind not in present:
            options = presets.PRESETS[f"{family}/2svae"].density.get(kind, {}) | SHORTER.get((scale, kind), {})
            options |= {"components": 10} if kind == "gmm" else {}
            raectl("fit-density", path, "--density", text_of(kind, **options), "--seed", seed)


def measure(row: Row, path: Path, test: str, n: int, seed: int, decoder: str) -> None:
    """Evaluate a checkpoint unless every column of the row was measured with this decoder, at this n and seed."""
    known = {
        line["of"]
        for line in comparing.records(load(path, "cpu", decoder))
        if line["decoder"] == decoder and line.get("seed") == seed and line["n"] == min(n, line.get("n_real", n))
    }
    if not known >= {row.reconstruction, row.n, row.gmm or row.n, row.interpolation}:
        raectl("evaluate", path, "--data", test, "-n", n, "--seed", seed, "--decoder", decoder)


def raectl(*arguments: object) -> None:
    """Run a command as a user would, and say how long it took."""
    command = [sys.executable, "-m", "raectl", *map(str, arguments)]
    print("$ raectl", *command[3:], flush=True)
    began = time.monotonic()
    subprocess.run(command, check=True)
    print(f"  ({time.monotonic() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
