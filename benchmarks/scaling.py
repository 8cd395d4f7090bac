"""Do time and memory of training grow with the data set?

    OMP_NUM_THREADS=2 python benchmarks/scaling.py

Trains on 10,000, 100,000 and 1,000,000 synthetic images of 32 x 32, memory-mapped from `.npy` files, each in a process
of its own, their blocks of steps interleaved. Reports images per second and the largest anonymous resident memory
(pages of the files, which the system may drop at any time, not counted). Needs 2.2 GB of disk for a while. Writes
results/scaling.md; how the fit of a mixture grows is in results/densities.md.
"""

import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from timing import in_process, interleaved, publish, ratio

import raectl
from raectl import rng
from raectl.checkpoint.directory import Directory
from raectl.model.resolve import resolve
from raectl.progress import Progress
from raectl.training.run import Run

SIZES = (10_000, 100_000, 1_000_000)
WIDTH, STEPS, ROUNDS, BATCH = 8, 20, 11, 100


def write(path: Path, count: int) -> None:
    """Noise, (count, 32, 32, 1) uint8, in blocks."""
    file = np.lib.format.open_memmap(path, "w+", np.uint8, (count, 32, 32, 1))
    random = np.random.default_rng(0)
    for start in range(0, count, 10_000):
        file[start : start + 10_000] = random.integers(0, 256, (10_000, 32, 32, 1), dtype=np.uint8)


def anonymous_mib() -> float:
    """Resident memory that no file is behind, now."""
    fields = Path("/proc/self/status").read_text().split()
    return int(fields[fields.index("RssAnon:") + 1]) / 1024


def training(path: Path) -> Callable[[], float]:
    """Some steps in the order of an epoch, going on where the last call stopped; returns the memory after them."""
    dataset = raectl.open_dataset(path)
    config = raectl.Config(reg="tikhonov", width=WIDTH, device="cpu", batch_size=BATCH, augment="off")
    run = Run(resolve(config, dataset), dataset, Directory(Path("unused")), Progress())
    run.loop.model.train()
    order = run.loop.train_rows[rng.permutation(0, "order", len(run.loop.train_rows))]

    def steps() -> float:
        for _ in range(STEPS):
            start = (run.loop.position.batch * BATCH) % (len(order) - BATCH)
            run.loop.step(order[start : start + BATCH])
        return anonymous_mib()

    return steps


def main() -> None:
    """Write the arrays, train on all of them, publish."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RAECTL_CACHE"] = str(Path(folder) / "cache")
        columns, memory = {}, {}
        for size in SIZES:
            path = Path(folder) / f"{size}.npy"
            write(path, size)
            call = in_process(training, path)

            def remembering(size: int = size, call: Callable[[], object] = call) -> None:
                memory[size] = max(memory.get(size, 0.0), float(str(call())))

            columns[f"{size:,}"] = remembering
        times = interleaved(columns, ROUNDS)
    first = times[f"{SIZES[0]:,}"]
    lines = [
        "| images | images/s, median | time over the first's (95 %) | anonymous memory, MiB |",
        "|---|---|---|---|",
    ]
    for size in SIZES:
        seconds = times[f"{size:,}"]
        speed = STEPS * 100 / statistics.median(seconds)
        lines.append(f"| {size:,} | {speed:.0f} | {ratio(seconds, first)} | {memory[size]:.0f} |")
    lines.append(f"\nWidth {WIDTH}, batch 100, {ROUNDS} interleaved rounds of {STEPS} steps.")
    publish("scaling", "OMP_NUM_THREADS=2 python benchmarks/scaling.py", "\n".join(lines))


if __name__ == "__main__":
    main()
