"""Commands that are disturbed by kill.py: what there is before each, what must hold after a fault, how one goes on."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from faults import Ended, Forked
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
        log, state = (
            self.home / "ckpt" / "log.jsonl",
            read_arrays(self.home / "ckpt" / "training.safetensors", Any)[1],
        )
        logged = len(Directory(self.home / "ckpt").read_log()) if log.exists() else 0
        return max(0, logged - state["epoch"])

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
    arrays, metadata = read_arrays(path, Any)
    return repr(metadata).encode() + b"".join(arrays[name].tobytes() for name in sorted(arrays))


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


class Continued(New):
    name = "`train --from`, augmented, with noise"
    command = (
        *("train", "--data", "digits", "--from", "other", "--out", "ckpt", "--epochs", 3, "--device", "cpu"),
        *("--augment", "flip,shift,turn,colour", "--reg", "noise", "--precision", "fp32", "--batch-size", 200),
    )

    def prepare(self, run: Forked) -> None:
        done(run.run([*TRAIN[:-1], "other", "--epochs", 1]))

    def outcome(self) -> dict[str, bytes]:
        """Names and numbers, those of the split as well."""
        return {**super().outcome(), "items": numbers(self.home / "ckpt" / "items.safetensors")}


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
            saved = read_arrays(ckpt.sharpening, Any)[1]["position"]["step"]
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
        options = read_arrays(path, Any)[1]["options"]
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


class Scoring(Scenario):
    name = "`score`, over a table"
    command = ("score", "ckpt", "--data", "digits", "-o", "scores.csv")
    keeps = Fitting.keeps

    def prepare(self, run: Forked) -> None:
        Fitting.prepare(self, run)  # type: ignore[arg-type]
        (run.home / "scores.csv").write_text("former")

    def check(self) -> int:
        table = (self.home / "scores.csv").read_bytes()
        require(table in (b"former", self.result["table"]), "half a table")
        return super().check()

    def outcome(self) -> dict[str, bytes]:
        return {"table": (self.home / "scores.csv").read_bytes()}


class CrossFitting(Scoring):
    name = "`score --cross-fit`"
    command = ("score", "ckpt", "--cross-fit", 2, "-o", "scores.csv")


SCENARIOS = (
    *(New, Resumed, Overwriting, Continued, Packing, Fitting, Sharpening, SharpeningAnew, TrainingBoth),
    *(Sampling, SamplingFiles, Evaluating, Scoring, CrossFitting),
)
