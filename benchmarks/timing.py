"""Times that can be compared on a machine whose speed wanders: runs interleaved, ratios taken round by round."""

import contextlib
import math
import multiprocessing
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Ratio:
    """The median of paired ratios, and the interval that holds the true median with at least 95 % probability."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def interleaved(columns: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each column's calls: one each a round, in a new order each time, after a round that is not kept."""
    order = [*columns]
    shuffle = random.Random(0).shuffle
    times: dict[str, list[float]] = {name: [] for name in columns}
    for number in range(rounds + 1):
        shuffle(order)
        for name in order:
            began = time.perf_counter()
            columns[name]()
            if number:
                times[name].append(time.perf_counter() - began)
    return times


def in_process(make: Callable[..., Callable[[], object]], *arguments: object) -> Callable[[], object]:
    """The column that `make(*arguments)` gives, in a process of its own: what one sets up there helps no other."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    context.Process(target=_serve, args=(theirs, make, arguments), daemon=True).start()
    theirs.close()

    def call() -> object:
        ours.send(None)
        return ours.recv()

    return call


def _serve(connection: Connection, make: Callable[..., Callable[[], object]], arguments: tuple[object, ...]) -> None:
    column = make(*arguments)
    with contextlib.suppress(EOFError, KeyboardInterrupt):  # the other end has what it wanted
        while True:
            connection.recv()
            connection.send(column())


def ratio(times: Sequence[float], others: Sequence[float]) -> Ratio:
    """How many times as long `times` are, pair by pair; at least 6 pairs for a true interval.

    The interval is between order statistics, whose ranks are the binomial distribution's: nothing is assumed of the
    ratios but that they are independent.
    """
    ratios = sorted(a / b for a, b in zip(times, others, strict=True))
    n, rank, below = len(ratios), 0, 0.0
    while (below := below + math.comb(n, rank) / 2**n) <= 0.025:
        rank += 1
    rank = max(0, rank - 1)
    return Ratio(statistics.median(ratios), ratios[rank], ratios[n - 1 - rank])


def paired(a: Callable[[], object], b: Callable[[], object], rounds: int) -> tuple[float, float, Ratio]:
    """Median seconds of `a` and of `b`, called in turns, and how many times as long as `b` `a` takes."""
    times = interleaved({"a": a, "b": b}, rounds)
    return statistics.median(times["a"]), statistics.median(times["b"]), ratio(times["a"], times["b"])


def machine() -> str:
    """What the figures were measured on, in a line."""
    import torch

    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next((line.partition(":")[2].strip() for line in flags.splitlines() if "model name" in line), "")
    units = ", ".join(unit for unit in ("avx512f", "avx512_bf16", "amx_bf16") if f" {unit}" in flags)
    return (
        f"{os.cpu_count()} cores of {model or platform.machine()} ({units or 'no AVX-512'}), shared; "
        f"{torch.get_num_threads()} threads; Python {platform.python_version()}, torch {torch.__version__}"
    )


def publish(name: str, command: str, text: str) -> None:
    """Print a result, and write it to `results/` with the command and the machine that gave it."""
    page = f"    {command}\n\n{text.strip()}\n\n{machine()}\n"
    print(page)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(page)
