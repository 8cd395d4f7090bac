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

import numpy as np
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
from PIL import Image

from raectl.checkpoint.directory import Directory
from raectl.storage.arrays import read_arrays
from raectl.storage.atomic import TEMPORARY

NET = ("--image-size", 8, "--width", 2, "--latent-dim", 2, "--device", "cpu", "--precision", "fp32")
TRAIN = ("train", *NET, "--batch-size", 200, "--data", "digits", "--out", "ckpt")
PACK = ("train", *NET, "--batch-size", 16, "--data", "imgs", "--out", "ckpt", "--epochs", 1)
RESUME = ("train", "--resume", "--out", "ckpt", "--epochs", 3)
FIT = ("fit-density", "ckpt", "--components", 3, "--name", "gmm-3", "--seed", 2)
SHARP = "decoder-sharp.safetensors"
KILLED = -9
SIZES = (0, 60, 500, 2_000, 5_000, 8_000, 12_000, 20_000, 40_000)  # bytes, for `full_at`


class LostError(Exception):
    """Something is lost."""


def require(held: bool, what: str) -> None:
    if not held:
        raise LostError(what)


class Scenario:
    """A command, the directory it is typed in, and what must be there after a fault and when it has been typed again.

    A subclass says what there is before (`prepare`), which command is disturbed, what else must hold after a fault
    (`check`), how one goes on, and what of the result is compared.
    """

    name: str
    command: tuple[Any, ...]
    keeps: tuple[str, ...] = ()  # files that no fault may change

    def __init__(self, home: Path) -> None:
        """Run it once undisturbed, in `home`."""
        self._start = home.parent / f"start of {home.name}"
        self._start.mkdir()
        self.prepare(Forked(self._start))
        self.home = home
        self.reset()
        self.seconds = done(Forked(home).run(self.command)).seconds
        self.result = self.outcome()

    def reset(self) -> None:
        """Have everything as it was before the command."""
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.copytree(self._start, self.home, symlinks=True)

    def prepare(self, run: Forked) -> None:
        """Fill the directory with what there is before the command."""

    def go_on(self) -> list[tuple[Any, ...]]:
        """The commands that a user types after the fault."""
        return [self.command]

    def check(self) -> int:
        """Whole after a fault? The number of epochs or looks that were logged and are not in the saved state."""
        for name in self.keeps:
            require(same(self.home / name, self._start / name), f"{name} has changed")
        if not any((place / "ckpt").exists() for place in (self.home, self._start)):
            return 0
        done(Forked(self.home).run(["info", "ckpt", "--json"]))
        log, state = (self.home / "ckpt" / "log.jsonl", read_arrays(self.home / "ckpt" / "training.safetensors")[1])
        logged = len(Directory(self.home / "ckpt").read_log()) if log.exists() else 0
        return max(0, logged - json.loads(state["position"])["epoch"])

    def outcome(self) -> dict[str, bytes]:
        """What the command leaves: names and numbers."""
        ckpt = self.home / "ckpt"
        held = {name: numbers(ckpt / name) for name in ("model.safetensors", "training.safetensors")}
        for path in (ckpt / "densities").glob("*/density.safetensors"):
            held[path.parent.name] = numbers(path)
        return held

    def after(self) -> int:
        """Look, go on, compare: the number of epochs that had to be done again."""
        lost = self.check()
        for command in self.go_on():
            done(Forked(self.home).run(command))
        result = self.outcome()
        odd = [name for name in {**result, **self.result} if result.get(name) != self.result.get(name)]
        require(not odd, f"{', '.join(odd)} differ from those of an undisturbed run")
        left = [path for path in self.home.rglob(".*") if path.name.startswith((TEMPORARY, ".raectl"))]
        require(not left, f"left behind: {left}")
        return lost


def done(ended: Ended) -> Ended:
    require(ended.code == 0, f"a command ended with {ended.code}: {ended.err}")
    return ended


def same(a: Path, b: Path) -> bool:
    return a.exists() and a.read_bytes() == b.read_bytes()


def numbers(path: Path) -> bytes:
    arrays, metadata = read_arrays(path)
    return repr(sorted(metadata.items())).encode() + b"".join(arrays[name].tobytes() for name in sorted(arrays))


class New(Scenario):
    name = "`train`, a new run"
    command = (*TRAIN, "--epochs", 3)

    def go_on(self) -> list[tuple[Any, ...]]:
        return [RESUME] if (self.home / "ckpt").exists() else [self.command]


class Resumed(New):
    name = "`train --resume`"
    command = RESUME

    def prepare(self, run: Forked) -> None:
        done(run.run([*TRAIN, "--epochs", 1]))


class Overwriting(New):
    name = "`train --overwrite`"
    command = (*TRAIN, "--epochs", 3, "--overwrite", "--seed", 1)

    def prepare(self, run: Forked) -> None:
        done(run.run([*TRAIN, "--epochs", 1]))
        done(run.run(["fit-density", "ckpt", "--density", "gaussian"]))

    def go_on(self) -> list[tuple[Any, ...]]:
        seed = json.loads((self.home / "ckpt" / "config.json").read_text())["config"]["seed"]
        former = self.home / "ckpt" / "densities" / "gaussian" / "density.json"
        require(seed == 1 or former.exists(), "neither the former run nor the new one is whole")
        return [RESUME] if seed == 1 else [self.command]


class Packing(New):
    name = "`train`, images into the cache"
    command = PACK

    def prepare(self, run: Forked) -> None:
        (run.home / "imgs").mkdir()
        rng = np.random.default_rng(0)
        for number in range(150):
            pixels = rng.integers(0, 256, (24, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(run.home / "imgs" / f"{number:03}.png")

    def go_on(self) -> list[tuple[Any, ...]]:
        return [("train", "--resume", "--out", "ckpt")] if (self.home / "ckpt").exists() else [self.command]


class Fitting(Scenario):
    name = "`fit-density`, again under its name"
    command = FIT
    keeps = tuple(f"ckpt/{name}" for name in ("config.json", "model.safetensors", "training.safetensors"))

    def prepare(self, run: Forked) -> None:
        done(run.run([*TRAIN, "--epochs", 1]))
        done(run.run(["fit-density", "ckpt", "--density", "gaussian"]))
        done(run.run([*FIT[:-1], 1]))

    def check(self) -> int:
        lost = super().check()
        listed = json.loads(Forked(self.home).run(["info", "ckpt", "--json"]).out)["densities"]
        require({"gaussian", "gmm-3"} == {entry["name"] for entry in listed}, "a density is lost")
        done(Forked(self.home).run(["sample", "ckpt", "-n", 2, "--density", "gmm-3", "-o", "two.npy"]))
        (self.home / "two.npy").unlink()
        return lost


class Sharpening(Scenario):
    name = "`sharpen`"
    command = ("sharpen", "ckpt", "--steps", 120)
    keeps = tuple(f"ckpt/{name}" for name in ("config.json", "model.safetensors", "training.safetensors"))

    def prepare(self, run: Forked) -> None:
        Fitting.prepare(self, run)  # type: ignore[arg-type]

    def go_on(self) -> list[tuple[Any, ...]]:
        begun = (self.home / "ckpt" / "sharpening.safetensors").exists()
        return [("sharpen", "ckpt", "--resume") if begun else self.command]

    def check(self) -> int:
        for name in ("gaussian", "gmm-3"):
            done(Forked(self.home).run(["sample", "ckpt", "-n", 2, "--density", name, "-o", "two.npy"]))
            (self.home / "two.npy").unlink()
        done(Forked(self.home).run(["sample", "ckpt", "-n", 2, "--decoder", "plain", "-o", "two.npz"]))
        (self.home / "two.npz").unlink()
        super().check()
        ckpt = Directory(self.home / "ckpt")
        steps = [line["step"] for line in ckpt.read_sharpening_log()]
        saved = 0
        if ckpt.sharpening.exists():
            saved = json.loads(read_arrays(ckpt.sharpening)[1]["sharpening"])["position"]["step"]
        return sum(step > saved for step in steps)

    def outcome(self) -> dict[str, bytes]:
        made = {name: numbers(self.home / "ckpt" / name) for name in ("sharpening.safetensors", SHARP)}
        return {**super().outcome(), **made, "log": repr(Directory(self.home / "ckpt").read_sharpening_log()).encode()}


class SharpeningAnew(Sharpening):
    name = "`sharpen --overwrite`"
    command = ("sharpen", "ckpt", "--steps", 120, "--seed", 1, "--overwrite")

    def prepare(self, run: Forked) -> None:
        super().prepare(run)
        done(run.run(["sharpen", "ckpt", "--steps", 50]))

    def go_on(self) -> list[tuple[Any, ...]]:
        path = self.home / "ckpt" / "sharpening.safetensors"
        options = json.loads(read_arrays(path)[1]["sharpening"])["options"]
        return [("sharpen", "ckpt", "--resume") if options["seed"] == 1 else self.command]


class TrainingBoth(New):
    name = "`train --sharpen`, both phases"
    command = (*TRAIN, "--epochs", 2, "--sharpen")

    def go_on(self) -> list[tuple[Any, ...]]:
        return [("train", "--resume", "--out", "ckpt")] if (self.home / "ckpt").exists() else [self.command]

    def outcome(self) -> dict[str, bytes]:
        made = {name: numbers(self.home / "ckpt" / name) for name in ("sharpening.safetensors", SHARP)}
        return {**super().outcome(), **made}


class Sampling(Scenario):
    name = "`sample`, over a file"
    command = ("sample", "ckpt", "-n", 600, "-o", "out.npz")
    keeps = Fitting.keeps

    def prepare(self, run: Forked) -> None:
        Fitting.prepare(self, run)  # type: ignore[arg-type]
        done(run.run(["sample", "ckpt", "-n", 5, "-o", "out.npz"]))

    def check(self) -> int:
        out = self.home / "out.npz"
        require(same(out, self._start / "out.npz") or images(out) == self.result["images"], "the picture is damaged")
        return super().check()

    def outcome(self) -> dict[str, bytes]:
        return {"images": images(self.home / "out.npz")}


def images(path: Path) -> bytes:
    with np.load(path) as held:
        return bytes(held["images"].tobytes())


class SamplingFiles(Sampling):
    name = "`sample`, a directory of files"
    command = ("sample", "ckpt", "-n", 40, "-o", "out")

    def prepare(self, run: Forked) -> None:
        Fitting.prepare(self, run)  # type: ignore[arg-type]

    def check(self) -> int:
        out = self.home / "out"
        require(not out.exists() or len([*out.iterdir()]) == 40, "half of the files are there")
        shutil.rmtree(out, ignore_errors=True)
        return Scenario.check(self)

    def outcome(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.home / "out").iterdir()}


class Evaluating(Scenario):
    name = "`evaluate`"
    command = ("evaluate", "ckpt", "--data", "digits", "--features", "pixels", "-n", 100, "--density", "gmm-3")
    keeps = Fitting.keeps

    def prepare(self, run: Forked) -> None:
        Fitting.prepare(self, run)  # type: ignore[arg-type]

    def outcome(self) -> dict[str, bytes]:
        lines = Directory(self.home / "ckpt").read_metrics()  # the last of a name counts
        return {f"{line['of']} {line['metric']}": repr(line["value"]).encode() for line in lines}


SCENARIOS = (
    *(New, Resumed, Overwriting, Packing, Fitting, Sharpening, SharpeningAnew, TrainingBoth),
    *(Sampling, SamplingFiles, Evaluating),
)
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
