"""How long does `raectl --help` take, against the smallest Typer and Rich program?

    python benchmarks/startup.py

Prints a Markdown table of the medians of interleaved runs, and their ratios run by run.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 20
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


def seconds(command: list[str]) -> float:
    """Wall time of one run."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Interleave, so that a machine that slows down slows all of them."""
    with tempfile.TemporaryDirectory() as folder:
        hello = Path(folder) / "hello.py"
        hello.write_text(HELLO)
        raectl = [sys.executable, "-m", "raectl"]
        rows = {
            "hello --help": [sys.executable, str(hello), "--help"],
            "raectl --help": [*raectl, "--help"],
            **{f"raectl {name} --help": [*raectl, name, "--help"] for name in COMMANDS},
        }
        times: dict[str, list[float]] = {name: [] for name in rows}
        for _ in range(RUNS):
            for name, command in rows.items():
                times[name].append(seconds(command))
    print(f"| command | median of {RUNS}, s | ratio to hello, median | quartiles |\n|---|---|---|---|")
    for name, measured in times.items():
        ratios = [t / base for t, base in zip(measured, times["hello --help"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f"| `{name}` | {statistics.median(measured):.3f} | {middle:.2f} | {low:.2f} to {high:.2f} |")


if __name__ == "__main__":
    main()
