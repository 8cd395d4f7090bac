"""Are percentiles right, and are blank images odd?

    python benchmarks/detection/calibrated.py mnist=mnist emoji=emoji64.zip photographs=photographs/train.npz

Of each source 30 %, at most 10,000 images, are set aside by the seed; a model is trained on the others, and the images
set aside are scored. How many are flagged at 1 % (and at 5 %) is to lie in the 95 % interval of the beta-binomial
distribution that follows from the number of held-out images, whatever the scores' distribution is: with c = floor(flag
(n + 1)), BetaBinomial(m; c, n + 1 - c). Cuts of one photograph may be on both sides: percentiles are those of the same
source. Then images that are none: black, white, grey, and uniform noise; the mean image is reported.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from scipy.stats import betabinom

sys.path.insert(0, str(Path(__file__).parents[1]))
from timing import publish

import raectl

NET = ("--reg", "tikhonov", "--width", "8", "--device", "cpu", "--precision", "fp32")
STEPS, BATCH = 1000, 50
ASIDE, MOST = 0.3, 10_000
FLAGS = (0.01, 0.05)


def model(name: str, source: str, seed: int, runs: Path) -> tuple[raectl.Checkpoint, np.ndarray]:
    """A model, and the images set aside."""
    items = raectl.open_dataset(source).items
    order = np.random.default_rng(seed).permutation(len(items))
    m = min(MOST, round(ASIDE * len(items)))
    aside, rest = items[np.sort(order[:m])], items[np.sort(order[m:])]
    path, data = runs / f"{name}-{seed}", runs / f"{name}-{seed}.npy"
    if not path.exists():
        runs.mkdir(parents=True, exist_ok=True)
        np.save(data, rest)
        epochs = max(1, round(STEPS * BATCH / (0.9 * len(rest))))
        train = ("train", data, *NET, "--batch-size", BATCH, "--epochs", epochs, "--seed", seed, "--out", path)
        for command in (train, ("fit-density", path, "--seed", seed)):
            print("$ raectl", *command, flush=True)
            subprocess.run([sys.executable, "-m", "raectl", *map(str, command)], check=True)
    return raectl.load(path, "cpu"), aside


def blanks(items: np.ndarray) -> dict[str, np.ndarray]:
    shape = items.shape[1:]
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    flat = {name: np.full(shape, level, np.uint8) for name, level in (("black", 0), ("white", 255), ("grey", 128))}
    return {**flat, "noise": noise, "mean image": np.round(items.mean(axis=0)).astype(np.uint8)}


def main() -> None:
    """Parse the command line; a row a source and seed in two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", metavar="NAME=SOURCE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--runs", type=Path, default=Path("calibrated-runs"))
    given = parser.parse_args()
    first = [
        "| | seed | held out | set aside | flagged at 1 % | 95 % interval | at 5 % | 95 % interval |",
        "|" + "---|" * 8,
    ]
    second = ["| percentile of | seed | black | white | grey | noise | mean image |", "|" + "---|" * 7]
    for source in given.sources:
        name, _, spec = source.partition("=")
        for seed in given.seeds:
            checkpoint, aside = model(name, spec, seed, given.runs)
            calibration, scores = checkpoint.calibration(), checkpoint.score(aside)
            cells = []
            for flag in FLAGS:
                c = int(flag * (calibration.n + 1))
                low, high = betabinom.ppf((0.025, 0.975), len(aside), c, calibration.n + 1 - c)
                found = int(scores.odd(flag).sum())
                is_in = "" if low <= found <= high else " (outside)"
                cells += [f"{found}{is_in}", f"{low:.0f} to {high:.0f}"]
            first.append(f"| {name} | {seed} | {calibration.n:,} | {len(aside):,} | {' | '.join(cells)} |")
            odd = blanks(aside)
            percentiles = checkpoint.score(np.stack([*odd.values()])).percentile
            second.append(f"| {name} | {seed} | {' | '.join(f'{value:.2f}' for value in percentiles)} |")
    publish(
        "calibrated",
        f"python benchmarks/detection/calibrated.py {' '.join(given.sources)}",
        "\n".join([*first, "", *second]),
    )


if __name__ == "__main__":
    main()
