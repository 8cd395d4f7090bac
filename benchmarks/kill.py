"""What is lost when raectl is killed, or the disk refuses? Every fault is followed by what a user would type then.

    python benchmarks/kill.py --kills 200 --seed 0 --log kills.jsonl      kills at random moments
    python benchmarks/kill.py --points --log points.jsonl                 an end before every file operation
    python benchmarks/kill.py --disk --log disk.jsonl                     a disk that refuses, or is full
    python benchmarks/kill.py --report kills.jsonl points.jsonl disk.jsonl > benchmarks/results/kill.md

After each fault the directory must open, the interrupted command must go on, and what it leaves must be, number for
number, what the same command left undisturbed; nothing temporary may be left. The first thing that is lost ends the
program with an error. A slice with another `--seed`, or of some `--scenarios`, appends to the same log.
"""

import argparse
import functools
import json
import os
import random
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from faults import (
    Ended,
    Fault,
    Forked,
    Real,
    counting,
    ending_before,
    full_at,
    read_only,
    refusing_from,
    vanishing_before,
)
from scenarios import FIT, SCENARIOS, TRAIN, Scenario, done, require

KILLED = -9
SIZES = (0, 60, 500, 2_000, 5_000, 8_000, 12_000, 20_000, 40_000)  # bytes, for `full_at`
ONE_REAL_IN = 6


# -- the three kinds of fault ------------------------------------------------------------------------------------------


def kills(scenarios: list[Scenario], count: int, seed: int) -> Iterator[dict[str, Any]]:
    """So many kills at random moments, the scenarios in turn."""
    rng = random.Random(seed)
    real_seconds: dict[str, float] = {}
    for number in range(count):
        scenario = scenarios[number % len(scenarios)]
        is_real = number // len(scenarios) % ONE_REAL_IN == ONE_REAL_IN - 1
        run, seconds = (Real(scenario.home), 0.0) if is_real else (Forked(scenario.home), scenario.seconds)
        if is_real:
            if scenario.name not in real_seconds:
                scenario.reset()
                real_seconds[scenario.name] = done(run.run(scenario.command)).seconds
            seconds = real_seconds[scenario.name]
        ended, moment = None, 0.0
        while ended is None or ended.code != KILLED:  # one that comes after the end is none
            scenario.reset()
            moment = rng.uniform(0, seconds)
            ended = run.run(scenario.command, kill_after=moment)
            require(ended.code in (0, KILLED), f"ended with {ended.code}")
            seconds = min(seconds, ended.seconds) if ended.code == 0 else seconds  # the machine was slower then
        fault = f"killed at a random moment, {'a process of its own' if is_real else 'a fork'}"
        yield {"fault": fault, "scenario": scenario.name, "at": moment / seconds, "lost": scenario.after()}


@functools.cache
def operations(scenario: Scenario) -> int:
    """How many file operations there are in the command."""
    scenario.reset()
    counted = scenario.home.parent / "operations"
    done(Forked(scenario.home).run(scenario.command, fault=counting(counted)))
    return counted.stat().st_size


def points(scenarios: list[Scenario], step: int) -> Iterator[dict[str, Any]]:
    """An end before every file operation, or every `step`-th, and in the middle of every file that is flushed."""
    for scenario in scenarios:
        for number in range(1, operations(scenario) + 1, step):
            scenario.reset()
            code = Forked(scenario.home).run(scenario.command, fault=ending_before(number, torn=number % 2 == 0)).code
            require(code == KILLED, f"not killed at operation {number}, but {code}")
            fault = "killed before a file operation, each in turn"
            yield {"fault": fault, "scenario": scenario.name, "at": number, "lost": scenario.after()}


def disk(scenarios: list[Scenario], step: int) -> Iterator[dict[str, Any]]:
    """A disk that takes nothing from an operation on, or no more than some bytes a file."""
    for scenario in scenarios:
        numbers = range(1, operations(scenario) + 1, step)
        refusals: list[tuple[str, int, Fault]] = [
            *(("no space left, from a file operation on, each in turn", n, refusing_from(n)) for n in numbers),
            *(
                ("the disk full in the middle of a file", size, full_at(size))
                for size in SIZES[2 % step :: min(step, 8)]
            ),
            ("a read-only disk", 1, read_only()),
            *(
                ("the directory moved away, before each file operation in turn", n, vanishing_before(n))
                for n in numbers
            ),
        ]
        for fault, at, install in refusals:
            scenario.reset()
            refuse(scenario, Forked(scenario.home).run(scenario.command, fault=install))
            gone, ckpt = scenario.home / "gone", scenario.home / "ckpt"
            if ckpt.exists():  # a new run in the place of the one that was moved away
                shutil.rmtree(gone, ignore_errors=True)
            elif gone.exists():
                gone.rename(ckpt)
            yield {"fault": fault, "scenario": scenario.name, "at": at, "lost": scenario.after()}


def refuse(scenario: Scenario, ended: Ended) -> None:
    """A refused command says so in two lines; one that could do without the file (a cache) goes on."""
    lines = [line for line in ended.err.splitlines() if line.startswith(("error: ", "hint: "))]
    clear = ended.code == 1 and 1 <= len(lines) <= 2 and "Traceback" not in ended.err and "defect" not in ended.err
    require(ended.code == 0 or clear, f"{scenario.name} ended with {ended.code}: {ended.err}")


def report(logs: list[Path]) -> str:
    """The table: fault, times tried, what was lost."""
    tried: dict[tuple[str, str], list[int]] = defaultdict(list)
    for line in (json.loads(text) for log in logs for text in log.read_text().splitlines()):
        tried[line["fault"], line["scenario"]].append(line["lost"])
    rows = ["| fault | command | times tried | lost |", "|---|---|---|---|"]
    for (fault, scenario), lost in sorted(tried.items()):
        epochs = f"nothing saved; {sum(map(bool, lost))} times an epoch that was logged and not saved yet"
        rows.append(f"| {fault} | {scenario} | {len(lost)} | {epochs if any(lost) else 'nothing'} |")
    return "\n".join([*rows, f"| all | | {sum(map(len, tried.values()))} | |"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--points", action="store_true")
    parser.add_argument("--disk", action="store_true")
    parser.add_argument("--step", type=int, default=1, help="every so many-th operation only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenarios", nargs="*", choices=[kind.__name__ for kind in SCENARIOS])
    parser.add_argument("--log", type=Path)
    parser.add_argument("--report", type=Path, nargs="*")
    asked = parser.parse_args()
    if asked.report:
        print(report(asked.report))
        return
    # On several threads, a fork of this process sums in another order than a process of its own.
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        wanted = [kind for kind in SCENARIOS if kind.__name__ in (asked.scenarios or kind.__name__)]
        warm = Path(folder).resolve() / "warm"
        warm.mkdir()
        Forked(warm).learn([(*TRAIN, "--epochs", 1), FIT, *(kind.command for kind in wanted)])
        scenarios = [kind(Path(folder).resolve() / kind.__name__) for kind in wanted]
        tries = [kills(scenarios, asked.kills, asked.seed)]
        tries += [points(scenarios, asked.step)] * asked.points + [disk(scenarios, asked.step)] * asked.disk
        for each in tries:
            for line in each:
                if asked.log:
                    with open(asked.log, "a", encoding="utf-8") as log:
                        log.write(json.dumps(line) + "\n")
                else:
                    print(json.dumps(line))


if __name__ == "__main__":
    main()
