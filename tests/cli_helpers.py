"""The command line in this process, small pictures, and comparisons of runs."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from raectl import files
from raectl.cli import main as program

ESCAPE = "\x1b"


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout as the one JSON object that it must be."""
        assert self.out.count("\n") == 1, f"stdout is not one line:\n{self.out}"
        value = json.loads(self.out, parse_constant=_no_constant)
        assert isinstance(value, dict)
        return value

    def lines(self, start: str) -> list[str]:
        """Lines of stderr that start so."""
        return [line for line in self.err.splitlines() if line.startswith(start)]


def _no_constant(name: str) -> Any:
    raise AssertionError(f"{name} is no JSON")


class Cli:
    """`raectl ARGUMENTS` in this process: what `main` does, without the interpreter's second and torch's two."""

    def __init__(self, monkeypatch: Any, capfd: Any) -> None:
        self._monkeypatch, self._capfd = monkeypatch, capfd

    def run(self, *arguments: object) -> Result:
        """Run it, whatever the outcome."""
        self._monkeypatch.setattr(sys, "argv", ["raectl", *map(str, arguments)])
        self._monkeypatch.setattr(program, "debug", False)
        self._capfd.readouterr()
        code = program._run()
        captured = self._capfd.readouterr()
        return Result(code, captured.out, captured.err)

    def __call__(self, *arguments: object) -> Result:
        """Run it; it must succeed."""
        result = self.run(*arguments)
        assert result.code == 0, f"raectl {' '.join(map(str, arguments))} -> {result.code}\n{result.err}"
        assert "Traceback" not in result.err
        assert not result.lines("error: ")
        return result


def assert_clear_error(result: Result, code: int, *fragments: str) -> None:
    """An error as the design has it: `error:`, maybe `hint:`, three lines at most (usage six), nothing else odd.

    Arguments:
        fragments: each must stand in the error's or the hint's line.
    """
    shown = f"exit {result.code}\nstdout: {result.out}\nstderr: {result.err}"
    assert result.code == code, shown
    assert len(result.lines("error: ")) == 1, shown
    assert len(result.lines("hint: ")) <= 1, shown
    assert "Traceback" not in result.err, shown
    assert "defect of raectl" not in result.err, shown
    assert ESCAPE not in result.err + result.out, shown
    lines = result.err.splitlines()
    began = next(number for number, line in enumerate(lines) if line.startswith("error: "))
    assert len(lines) - began <= (6 if code == 2 else 3), shown
    text = "\n".join(lines[began:])
    for fragment in fragments:
        assert fragment in text, f"{fragment!r} is not in:\n{text}"


def executable() -> str:
    """The installed program."""
    return str(Path(sys.executable).with_name("raectl"))


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """The program as a process of its own."""
    command = [executable(), *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )


def picture(index: int, size: int, *, grey: bool = False) -> np.ndarray:
    """A disc on a slope, in colours that depend on the index: (size, size[, 3]) uint8."""
    rng = np.random.default_rng(index)
    y, x = np.mgrid[:size, :size] / (size - 1)
    centre, radius = rng.uniform(0.3, 0.7, 2), rng.uniform(0.15, 0.35)
    inside = ((x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2)[..., None]
    slope = (x * rng.uniform(0, 1) + y * rng.uniform(0, 1))[..., None] / 2
    pixels = np.where(inside, rng.uniform(0, 1, 3), slope * rng.uniform(0.3, 1, 3))
    values = (255 * pixels).round().astype(np.uint8)
    return values[..., 0] if grey else values


def write_pictures(folder: Path, count: int, sizes: tuple[int, ...] = (12,), *, grey: bool = False) -> Path:
    """A folder of PNGs `0000.png` and so on, of these sizes in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        pixels = picture(index, sizes[index % len(sizes)], grey=grey)
        Image.fromarray(pixels).save(folder / f"{index:04}.png")
    return folder


def tree(path: Path) -> dict[str, bytes]:
    """Every file below a path with its bytes, and every directory, by relative name; of a file, that file alone."""
    if not path.is_dir():
        return {"": path.read_bytes()} if path.exists() else {}
    found = sorted(path.rglob("*"))
    return {
        str(entry.relative_to(path)) + ("/" if entry.is_dir() else ""): b"" if entry.is_dir() else entry.read_bytes()
        for entry in found
    }


def no_leftovers(path: Path) -> None:
    """Nothing half-written lies below a path."""
    left = [str(entry) for entry in path.rglob(f"*{files.TEMPORARY}*")]
    assert not left, left


def log_terms(checkpoint: Path) -> list[dict[str, Any]]:
    """log.jsonl without what a clock measured."""
    lines = [json.loads(line) for line in (checkpoint / "log.jsonl").read_text().splitlines()]
    for line in lines:
        del line["seconds"], line["items_per_second"], line["epochs"]
    return lines


def assert_same_run(a: Path, b: Path) -> None:
    """Two directories stand at the same instant, bit for bit: weights, best weights, moments, position, log."""
    ours, our_metadata = files.read_arrays(a / "training.safetensors")
    theirs, their_metadata = files.read_arrays(b / "training.safetensors")
    assert our_metadata == their_metadata
    assert list(ours) == list(theirs)
    assert {name.partition(".")[0] for name in ours} == {"last", "best", "adam", "epoch"}
    odd = [name for name in ours if ours[name].tobytes() != theirs[name].tobytes()]
    assert not odd, f"{len(odd)} of {len(ours)} arrays differ: {odd[:5]}"
    for name in ("training.safetensors", "model.safetensors"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    assert log_terms(a) == log_terms(b)


def plain_words(text: str) -> str:
    """Text without the frames that Typer draws, its white space made single."""
    return re.sub(r"\s+", " ", re.sub(r"[│╭╮╰╯─]", " ", text))
