"""Is training in bfloat16 faster than in float32 on this machine?

    python benchmarks/precision.py

Times training steps (32 x 32 grey images, batch 100, Tikhonov) in interleaved blocks, and prints a Markdown table of
the medians and of the ratio, block by block. `--precision auto` goes by a rule, not by this: runs must be repeatable.
"""

import statistics
import time
from pathlib import Path

import numpy as np

import raectl
from raectl.build import has_bf16, resolve
from raectl.directory import Directory
from raectl.reporting import Report
from raectl.trainer import Run

BLOCKS, STEPS = 7, 4


def steps_per_second(run: Run, rows: np.ndarray) -> float:
    """Over one block."""
    began = time.perf_counter()
    for _ in range(STEPS):
        run._step(rows)
    return STEPS / (time.perf_counter() - began)


def main() -> None:
    """Print the table."""
    if not has_bf16("cpu"):
        print("this processor has no bfloat16")
        return
    images = np.random.default_rng(0).integers(0, 256, (1000, 32, 32, 1), dtype=np.uint8)
    dataset = raectl.open_dataset(images)
    print("| width | fp32, images/s | bf16, images/s | bf16 over fp32, median | range |\n|---|---|---|---|---|")
    for width in (16, 32):
        runs = {}
        for precision in ("fp32", "bf16"):
            config = raectl.Config(reg="tikhonov", width=width, precision=precision, device="cpu")
            runs[precision] = Run(resolve(config, dataset), dataset, Directory(Path("unused")), Report())
            steps_per_second(runs[precision], runs[precision].train_rows[:100])  # warm-up
        pairs = []
        for _ in range(BLOCKS):
            pairs.append([steps_per_second(runs[p], runs[p].train_rows[:100]) for p in ("fp32", "bf16")])
        fp32, bf16 = (100 * statistics.median(column) for column in zip(*pairs, strict=True))
        ratios = [b / a for a, b in pairs]
        middle = statistics.median(ratios)
        print(f"| {width} | {fp32:.0f} | {bf16:.0f} | {middle:.2f} | {min(ratios):.2f} to {max(ratios):.2f} |")


if __name__ == "__main__":
    main()
