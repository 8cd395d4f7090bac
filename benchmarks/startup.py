"""How long do commands take to start?

    python benchmarks/startup.py

`--help` beside the smallest Typer and Rich program, and `sample` on a small checkpoint, decoding and all, beside the
bare import of torch. Each run is a process of its own, all are interleaved. Writes results/startup.md.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from timing import interleaved, publish, ratio

ROUNDS = 15
COMMANDS = ("demo", "train", "fit-density", "sample", "reconstruct", "info")
HELLO = '''
import typer
from rich.console import Console

app = typer.Typer()


@app.command()
def hello(name: str = "world") -> None:
    """Say hello.

    Example: hello --name you
    """
    Console().print(f"hello {name}")


app()
'''


def running(*command: object) -> Callable[[], object]:
    """One run, its output thrown away."""
    return lambda: subprocess.run([sys.executable, *map(str, command)], check=True, capture_output=True)


def main() -> None:
    """Interleave, so that a machine that slows down slows all of them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["RAECTL_CACHE"] = str(folder / "cache")
        (folder / "hello.py").write_text(HELLO)
        raectl, ckpt = ("-m", "raectl"), folder / "ckpt"
        running(*raectl, "train", "--epochs", 1, "--width", 8, "--out", ckpt)()
        running(*raectl, "fit-density", ckpt)()
        helps = {"hello --help": running(folder / "hello.py", "--help"), "raectl --help": running(*raectl, "--help")}
        helps |= {f"raectl {command} --help": running(*raectl, command, "--help") for command in COMMANDS}
        works = {
            'python -c "import torch"': running("-c", "import torch"),
            "raectl sample ckpt -n 64 -o out.png": running(*raectl, "sample", ckpt, "-n", 64, "-o", folder / "out.png"),
        }
        times = interleaved({**helps, **works}, ROUNDS)
    lines = [f"| command | median of {ROUNDS}, s | ratio to the first (95 %) |", "|---|---|---|"]
    for group in (helps, works):
        first = times[next(iter(group))]
        lines += [f"| `{row}` | {statistics.median(times[row]):.3f} | {ratio(times[row], first)} |" for row in group]
    publish("startup", "python benchmarks/startup.py", "\n".join(lines))


if __name__ == "__main__":
    main()
