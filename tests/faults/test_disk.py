"""A real disk that is full, read-only, or taken away: a file system of its own, which only root may mount (Linux)."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.cli import Cli, Result, assert_clear_error, no_leftovers, start, tree

import raectl

SMALL = "--image-size 12 --width 2 --latent-dim 4 --batch-size 16 --device cpu --precision fp32"
COMMANDS = {
    "train, a new run": f"train {SMALL} --epochs 1 --data {{home}}/images --out {{home}}/new",
    "train --resume": "train --resume --out {home}/ckpt --epochs 3",
    "train --overwrite": f"train {SMALL} --epochs 1 --data {{home}}/images --out {{home}}/ckpt --overwrite",
    "fit-density": "fit-density {home}/ckpt --components 3",
    "sample, a grid": "sample {home}/ckpt -n 9 -o {home}/out.png",
    "sample, an array": "sample {home}/ckpt -n 200 -o {home}/out.npz",
    "sample, files": "sample {home}/ckpt -n 9 -o {home}/out",
    "reconstruct": "reconstruct {home}/ckpt --data {home}/images -o {home}/out.png",
}
WITHOUT = {  # what can do without what it would write, and says so
    "the cache": f"train {SMALL} --epochs 1 --data {{home}}/images --out {{elsewhere}}/new --overwrite",
    "metrics.jsonl": "evaluate {home}/ckpt --data {home}/images --features pixels -n 20",
}
FREE = (0, 4, 16, 64)  # KiB that are left
MEBIBYTES = 4


def mount(*arguments: object) -> bool:
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True, check=False).returncode == 0


@pytest.fixture
def home(original: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small file system that holds a checkpoint, its images, files that are to be written over, and the cache."""
    if not (sys.platform.startswith("linux") and os.geteuid() == 0):
        pytest.skip("only root mounts file systems")
    disk = tmp_path / "disk"
    disk.mkdir()
    if not mount("-t", "tmpfs", "-o", f"size={MEBIBYTES}m", "raectl-tests", disk):
        pytest.skip("nothing can be mounted here")
    try:
        shutil.copytree(original.path, disk / "ckpt")
        shutil.copytree(original.data, disk / "images")
        for name in ("out.png", "out.npz"):
            (disk / name).write_text("of before")
        monkeypatch.setenv("RAECTL_CACHE", str(disk / "cache"))
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def leave(home: Path, kibibytes: int) -> None:
    """Fill the file system but for so much."""
    with open(home / "filler", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    os.truncate(home / "filler", (home / "filler").stat().st_size - 1024 * kibibytes)


def run(cli: Cli, home: Path, command: str) -> Result:
    """Run a command, which leaves nothing half-written and, if it fails, everything as it was."""
    before = kept(home)
    result = cli.run(*command.format(home=home, elsewhere=home.parent).split())
    no_leftovers(home.parent)
    assert not [*home.rglob("*.partial")]
    assert result.code == 0 or kept(home) == before
    return result


def kept(home: Path) -> dict[str, bytes]:
    """What a fault may not change: all but caches, and a line of the log that is cut off when the run is resumed."""
    log = (home / "ckpt" / "log.jsonl").read_bytes().splitlines()[:2]
    files = {name: data for name, data in tree(home).items() if not name.startswith(("cache/", "ckpt/latents/"))}
    return {**files, "ckpt/log.jsonl": b"".join(log)}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_full_disk(cli: Cli, home: Path, command: str) -> None:
    codes = []
    for kibibytes in FREE:
        leave(home, kibibytes)
        result = run(cli, home, command)
        codes.append(result.code)
        if result.code == 0:  # that was enough
            break
        assert_clear_error(result, 1, "error: cannot write", "No space left on device", "hint: free some space")
    (home / "filler").unlink()
    assert codes[0] == 1
    if codes[-1] == 1:
        cli(*command.format(home=home).split())
    no_leftovers(home)
    raectl.load(home / "ckpt", "cpu")


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_read_only_disk(cli: Cli, home: Path, command: str) -> None:
    assert mount("-o", "remount,ro", home)
    assert_clear_error(run(cli, home, command), 1, "error: cannot write", "Read-only file system", "hint: free some")
    assert mount("-o", "remount,rw", home)
    cli(*command.format(home=home).split())
    no_leftovers(home)


@pytest.mark.parametrize("what", WITHOUT)
@pytest.mark.parametrize("fault", ["No space left on device", "Read-only file system"])
def test_what_can_do_without_says_so(cli: Cli, home: Path, what: str, fault: str) -> None:
    metrics = home / "ckpt" / "metrics.jsonl"
    metrics.write_text("{}\n" * (4096 // 3) + "\n")  # a page, so that the next line needs another
    if fault.startswith("No"):
        leave(home, 0)
    else:
        assert mount("-o", "remount,ro", home)
    before = tree(home / "ckpt")
    result = run(cli, home, WITHOUT[what])
    assert result.code == 0, result.err
    said = [line for line in result.err.splitlines() if fault in line and str(home) in line and what in line]
    assert len(said) == 1, result.err
    assert tree(home / "ckpt") == before


@pytest.mark.parametrize("what", ["out", "its parent"])
def test_a_directory_that_vanishes_from_a_run(original: Any, tmp_path: Path, what: str) -> None:
    out = tmp_path / "runs" / "out"
    with start("train", *SMALL.split(), "--epochs", 100_000, "--data", original.data, "--out", out) as process:
        try:
            while not (out / "log.jsonl").exists():
                assert process.poll() is None, process.communicate()
                time.sleep(0.01)
            doomed = out if what == "out" else out.parent
            while doomed.exists():  # what the run writes at that moment is not to be removed at once
                shutil.rmtree(doomed, ignore_errors=True)
            _, stderr = process.communicate(timeout=600)
        finally:
            process.kill()
    assert_clear_error(Result(process.returncode, "", stderr), 1, f"error: {out}", "has vanished", "stay where it is")
    assert not out.exists()
    no_leftovers(tmp_path)
