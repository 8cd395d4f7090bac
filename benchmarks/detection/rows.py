"""Scoring a million rows: the rate beside that of encoder and decoder alone, and the memory.

    python benchmarks/detection/rows.py --rows 1000000

Images of 32 x 32, drawn at random into a .npy file; a model of width 8. The rate is measured on 20,000 of them,
interleaved, in rounds; then `raectl score` runs on 10,000 and on all, each in a process of its own whose peak memory is
asked for. What is mapped from the file counts in it only as far as the system keeps it, so anonymous memory is shown.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from timing import interleaved, publish, ratio

import raectl
from raectl.checkpoint.networks import BLOCK
from raectl.detection.scoring import Scoring

MEASURED = 20_000
NET = ("--width", "8", "--image-size", "32", "--fit", "stretch", "--device", "cpu", "--precision", "fp32")


def peak(*command: object) -> tuple[float, float]:
    """Seconds of a command, and the most anonymous memory that it had, MiB."""
    process = subprocess.Popen([sys.executable, "-m", "raectl", *map(str, command)])
    most, began = 0, time.monotonic()

    def watch() -> None:
        nonlocal most
        while process.poll() is None:
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    most = max(most, int(line.split()[1]))
            time.sleep(0.2)

    watcher = threading.Thread(target=watch)
    watcher.start()
    if process.wait():
        raise SystemExit("the command failed")
    watcher.join()
    return time.monotonic() - began, most / 1024


def main() -> None:
    """Make the model and the rows; measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        run = [sys.executable, "-m", "raectl"]
        subprocess.run([*run, "train", "digits", *NET, "--epochs", "5", "--out", home / "ckpt"], check=True)
        subprocess.run([*run, "fit-density", home / "ckpt", "--components", "10"], check=True)
        rows = np.lib.format.open_memmap(home / "rows.npy", "w+", np.uint8, (given.rows, 32, 32, 1))
        for start in range(0, given.rows, 50_000):
            part = rows[start : start + 50_000]
            part[:] = np.random.default_rng(start).integers(0, 256, part.shape, dtype=np.uint8)
        del rows
        np.save(home / "few.npy", np.load(home / "rows.npy", mmap_mode="r")[:10_000])
        np.save(home / "some.npy", np.load(home / "rows.npy", mmap_mode="r")[:MEASURED])
        checkpoint = raectl.load(home / "ckpt", "cpu")
        dataset = checkpoint.open_data(home / "some.npy")
        scoring = Scoring(checkpoint, dataset)

        def networks() -> None:
            for start in range(0, MEASURED, BLOCK):
                checkpoint.decode(checkpoint.encode(dataset.items[start : start + BLOCK]))

        columns = {"networks": networks, "score": lambda: scoring.run(home / "scores.csv")}
        times = interleaved(columns, given.rounds)
        rate = ratio(times["networks"], times["score"])
        table = [
            f"Encoder and decoder alone take {rate} of the time of `score`, which does "
            f"{MEASURED / np.median(times['score']):,.0f} rows a second; {given.rounds} rounds of {MEASURED:,} rows.\n",
            "| rows | seconds | anonymous memory, MiB |",
            "|---|---|---|",
        ]
        for n, file in ((10_000, "few.npy"), (given.rows, "rows.npy")):
            seconds, memory = peak("score", home / "ckpt", "--data", home / file, "-o", home / "out.csv")
            table.append(f"| {n:,} | {seconds:.0f} | {memory:.0f} |")
        publish("score-rows", f"python benchmarks/detection/rows.py --rows {given.rows}", "\n".join(table))


if __name__ == "__main__":
    main()
