"""Do memory and open files grow with what a process has done?

    python benchmarks/leaks.py --samples 1000 --openings 100 --commands 100

Prints a Markdown table: what was done, how often, and what was held before (after a tenth of it) and after.
"""

import argparse
import contextlib
import gc
import io
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import raectl
from raectl.cli import main as program
from raectl.generation.sampling import write_samples


def held() -> tuple[float, int]:
    """Mebibytes of memory in use, and open files, of this process (Linux)."""
    gc.collect()
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024, len([*Path("/proc/self/fd").iterdir()])


def row(what: str, times: int, act: Callable[[int], object]) -> str:
    """A line of the table; the first tenth fills what is kept on purpose."""
    for number in range(times // 10):
        act(number)
    (memory, files) = held()
    for number in range(times // 10, times):
        act(number)
    (memory_after, files_after) = held()
    return f"| {what} | {times} | {memory:.1f} | {memory_after:.1f} | {files} | {files_after} |"


def type_sample(ckpt: Path, out: Path, seed: int) -> None:
    """`raectl sample`, whole: from its words to its exit code."""
    sys.argv = ["raectl", "sample", str(ckpt), "-n", "16", "-o", str(out), "--seed", str(seed), "--device", "cpu"]
    with contextlib.redirect_stdout(io.StringIO()):
        assert program._run() == 0


def main() -> None:
    """Train a small model of the digits, then sample from it and open it, again and again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--openings", type=int, default=100)
    parser.add_argument("--commands", type=int, default=100)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ckpt, out = Path(folder) / "ckpt", Path(folder) / "out.png"
        config = raectl.Config(width=2, latent_dim=2, image_size=8, epochs=1, device="cpu", precision="fp32")
        raectl.train(config, "digits", ckpt).fit_density("gmm", components=3)
        print("| what | times | MiB | MiB after | open files | open files after |\n|---|---|---|---|---|---|")
        print(row("16 samples, written", asked.samples, lambda n: write_samples(ckpt, out, 16, seed=n, device="cpu")))
        print(row("`raectl.load`", asked.openings, lambda n: raectl.load(ckpt, "cpu")))
        print(row("the command `raectl sample -n 16`", asked.commands, lambda n: type_sample(ckpt, out, n)))


if __name__ == "__main__":
    main()
