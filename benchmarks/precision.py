"""Does bfloat16 cost quality? Test error of runs in bf16 and fp32 from the same seeds.

    python benchmarks/precision.py --data mnist --runs runs/precision

Trains RAE-L2 for 5 epochs at width 16 on MNIST (a folder with its four files), with everything but the precision as in
the small table of table1/; runs that are there already are used, interrupted ones go on. Each is decoded in its own
precision, as its user would see it. The interval is Student's, over the seeds. Writes results/precision.md.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from timing import publish

import raectl
from raectl import presets

PRECISIONS = ("fp32", "bf16")
BLOCK = 500  # images decoded at a time


def trained(data: str, runs: Path, precision: str, seed: int) -> Path:
    """The checkpoint of a run, made now if it is not there."""
    out = runs / f"{precision}-{seed}"
    settings = {"width": 16, "epochs": 5, "lr": 1e-3, "bn_momentum": 0.1, "plateau": "relative", "plateau_gain": 1e-4}
    given = {**presets.options("mnist/rae-l2"), **settings, "device": "cpu", "precision": precision, "seed": seed}
    config = raectl.load(out, "cpu").config if out.exists() else raectl.Config.from_dict(given)
    raectl.train(config, data, out, resume=out.exists())
    return out


def test_error(path: Path, items: np.ndarray) -> float:
    """Squared error summed over a test image's pixels, mean over the images; in its best epoch."""
    run, total = raectl.load(path, "cpu"), 0.0
    for start in range(0, len(items), BLOCK):
        block = items[start : start + BLOCK]
        x = torch.from_numpy(np.array(block)).permute(0, 3, 1, 2).double() / 255
        total += float((run.decode(run.encode(block)).double() - x).square().sum())
    return total / len(items)


def main() -> None:
    """Train what is missing, compare, publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/precision"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    options = parser.parse_args()
    lines = ["| seed | fp32 | bf16 | bf16 over fp32 |", "|---|---|---|---|"]
    logarithms = []
    for seed in options.seeds:
        paths = [trained(options.data, options.runs, precision, seed) for precision in PRECISIONS]
        test = Path(options.data) / "t10k-images-idx3-ubyte.gz"
        items = raectl.load(paths[0], "cpu").open_data(str(test)).items
        full, half = (test_error(path, items) for path in paths)
        logarithms.append(math.log(half / full))
        lines.append(f"| {seed} | {full:.3f} | {half:.3f} | {half / full:.4f} |")
    mean, error = float(np.mean(logarithms)), float(stats.sem(logarithms))
    low, high = (math.exp(mean + sign * stats.t.ppf(0.975, len(logarithms) - 1) * error) for sign in (-1, 1))
    lines.append(f"\nOver the seeds: {math.exp(mean):.4f} ({low:.4f} to {high:.4f}).")
    lines.append(f"Squared error summed over the pixels, mean over {len(items):,} test images.")
    publish("precision", "python benchmarks/precision.py --data mnist --runs runs/precision", "\n".join(lines))


if __name__ == "__main__":
    main()
