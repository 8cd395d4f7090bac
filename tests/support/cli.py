"""The command line in this process, small pictures, and comparisons of runs."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from raectl.cli import main as program
from raectl.storage.arrays import read_arrays
from raectl.storage.atomic import TEMPORARY

ESCAPE = "\x1b"
HOLDS_OTHER_THINGS = "holds other things"
SMALL = ["--image-size", "12", "--width", "2", "--latent-dim", "4", "--batch-size", "16", "--epochs", "1"]


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
        self._monkeypatch.setattr("raectl.cli.output.show_tracebacks", False)
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


def assert_interrupted(result: Result, code: int, *fragments: str) -> None:
    """An end by a signal, which is no error: a line of what was done, maybe `hint:`, nothing else odd."""
    shown = f"exit {result.code}\nstdout: {result.out}\nstderr: {result.err}"
    assert result.code == code, shown
    assert not result.lines("error: "), shown
    assert "Traceback" not in result.err and "defect of raectl" not in result.err, shown
    for fragment in fragments:
        assert fragment in result.err, shown


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
    left = [str(entry) for entry in path.rglob(f"*{TEMPORARY}*")]
    assert not left, left


def log_terms(checkpoint: Path) -> list[dict[str, Any]]:
    """log.jsonl without what a clock measured."""
    lines = [json.loads(line) for line in (checkpoint / "log.jsonl").read_text().splitlines()]
    for line in lines:
        del line["seconds"], line["items_per_second"], line["epochs"]
    return lines


def assert_same_run(a: Path, b: Path) -> None:
    """Two directories stand at the same instant, bit for bit: weights, best weights, moments, position, log."""
    ours, our_metadata = read_arrays(a / "training.safetensors", Any)
    theirs, their_metadata = read_arrays(b / "training.safetensors", Any)
    assert our_metadata == their_metadata
    assert list(ours) == list(theirs)
    assert {name.partition(".")[0] for name in ours} == {"last", "best", "average", "optimizer", "epoch"}
    odd = [name for name in ours if ours[name].tobytes() != theirs[name].tobytes()]
    assert not odd, f"{len(odd)} of {len(ours)} arrays differ: {odd[:5]}"
    for name in ("training.safetensors", "model.safetensors"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    assert log_terms(a) == log_terms(b)


def terminal(monkeypatch: Any, width: int) -> None:
    """Make stdout a terminal of so many columns."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")


def unstyled(text: str) -> str:
    """Text as a terminal shows it, its colours and weights aside."""
    return re.sub(ESCAPE + r"\[[0-9;]*m", "", text)


def plain_words(text: str) -> str:
    """Text without the frames that Typer draws, its white space made single."""
    return re.sub(r"\s+", " ", re.sub(r"[│╭╮╰╯─]", " ", text))


def contains(grid: np.ndarray, image: np.ndarray) -> bool:
    """Whether a picture holds an image, enlarged to 64 pixels as small ones are."""
    image = image.repeat(4, axis=0).repeat(4, axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(grid, image.shape)[:, :, 0]
    corner = np.argwhere((windows[:, :, 0, 0] == image[0, 0]).all(axis=-1))
    return any(np.array_equal(windows[y, x], image) for y, x in corner)


@dataclass(frozen=True)
class World:
    """A directory of everything that can be wrong, `{w}` in the cases below, and what is in it."""

    path: Path
    content: dict[str, bytes]


def make_world(w: Path, checkpoint: Path, images: Path) -> World:
    """Fill an empty directory with what can be wrong, and with copies of a checkpoint and its images."""
    from raectl.checkpoint.densities import fit_latents

    shutil.copytree(checkpoint, w / "ckpt")
    shutil.copytree(checkpoint, w / "nodensity")
    shutil.rmtree(w / "nodensity" / "densities")
    shutil.copytree(images, w / "images")
    write_pictures(w / "others", 20)
    (w / "empty").mkdir()
    for name, content in {
        "texts": {"a.txt": b"text", "b.csv": b"1,2"},
        "broken": {"a.png": b"\x89PNG\r\n\x1a\nrubbish", "b.jpg": b"", "c.png": b"nothing"},
        "textpng": {"notes.png": b"Dear diary, this is no image.\n"},
        "mine": {"thesis.txt": HOLDS_OTHER_THINGS.encode()},
    }.items():
        (w / name).mkdir()
        for file, data in content.items():
            (w / name / file).write_bytes(data)
    (w / "file.txt").write_text(HOLDS_OTHER_THINGS)
    (w / "one.png").write_bytes((w / "images" / "0000.png").read_bytes())
    for name, text in {
        "bad": "epochs = = 3",
        "unknown": "colour-of-the-sky = 3",
        "type": 'epochs = "many"',
        "out": "out = 5",
        "data": "data = [1]",
        "reg": "reg = 5",
        "table": "[train]\nepochs = 3",
    }.items():
        (w / f"{name}.toml").write_text(text)
    (w / "binary.toml").write_bytes(b"\xff\xfe\x00")
    z = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    np.save(w / "good.npy", z)
    np.save(w / "flat.npy", z[:, 0])
    np.save(w / "cube.npy", z[None])
    np.save(w / "nan.npy", np.where(z > 1, np.nan, z))
    np.save(w / "object.npy", np.array([[{"a": 1}, None]], dtype=object), allow_pickle=True)
    np.save(w / "strings.npy", np.array([["a", "b"]] * 4))
    np.save(w / "single.npy", z[:1])
    (w / "text.npy").write_text("no array")
    (w / "z.csv").write_text("0.5,1\n")
    (w / "void.npy").write_bytes(b"")
    np.savez(w / "archive.npz", a=z, b=z)
    (w / "cut.npz").write_bytes((w / "archive.npz").read_bytes()[:200])
    fit_latents(w / "latents-only", w / "good.npy", "gmm", components=2)
    return World(w, tree(w))


def assert_mistake(cli: Cli, world: World, new: Path, command: str, code: int, fragments: list[str]) -> None:
    """A wrong command says so, for people and in JSON, and leaves everything as it was.

    Arguments:
        new: an empty directory, the working directory; `{n}` in the command is a path in it, `{w}` is the world.
        fragments: of the error and the hint.
    """
    names = {"w": str(world.path), "n": str(new / "new")}
    arguments = [part.format(**names) for part in command.split()]
    said = [fragment.format(**names) for fragment in fragments]
    result = cli.run(*arguments)
    assert_clear_error(result, code, *said)
    assert result.out == ""
    result = cli.run(*arguments, "--json")
    assert_clear_error(result, code, *said)
    assert set(result.json) == {"error", "hint"}
    assert "error: " + " ".join(result.json["error"].split("\n")) in result.err
    assert bool(result.lines("hint: ")) == bool(result.json["hint"])
    assert tree(world.path) == world.content, "what was there is as it was"
    assert tree(new) == {}, "nothing new"


def memory(field: str) -> int:
    """Bytes of memory that this process has in use, or had at most."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024
