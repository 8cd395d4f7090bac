"""A disk that refuses a write, or is full: a clear error, and what was there is as it was."""

import errno
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from support.cli import Cli, Result, assert_clear_error, assert_interrupted, no_leftovers, tree

import raectl
from raectl.cli import main as program

TRAIN = "train --image-size 12 --width 2 --latent-dim 4 --batch-size 16 --epochs 1"


WRITES = {
    "train": "train --resume --out {ckpt} --epochs 3",
    "fit-density": "fit-density {ckpt} --components 3",
    "sample.png": "sample {ckpt} -n 9 -o {out}.png",
    "sample.npz": "sample {ckpt} -n 9 -o {out}.npz",
    "sample.npy": "sample {ckpt} -n 9 -o {out}.npy",
    "sample": "sample {ckpt} -n 9 -o {out}",
    "reconstruct": "reconstruct {ckpt} --data {data} -o {out}.png",
}


@pytest.mark.parametrize("command", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("when", ["rename", "flush"])
def test_a_disk_that_refuses_leaves_what_was_there(
    cli: Cli, trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, when: str
) -> None:
    for suffix in (".png", ".npz", ".npy"):
        (tmp_path / f"out{suffix}").write_text("of before")
    before = tree(tmp_path)
    cli("info", trained.path)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if when == "rename":
            patch.setattr(Path, "replace", refuse)
        else:
            patch.setattr("os.fsync", refuse)
        arguments = command.format(ckpt=trained.path, out=tmp_path / "out", data=trained.data).split()
        result = cli.run(*arguments)
    assert_clear_error(result, 1, "cannot write", "hint: free some space")
    assert result.out == ""
    no_leftovers(tmp_path)
    after = {name: content for name, content in tree(tmp_path).items() if name != "ckpt/log.jsonl"}
    assert after == {name: content for name, content in before.items() if name != "ckpt/log.jsonl"}
    raectl.load(trained.path, "cpu").sample(3)


@pytest.mark.parametrize("command", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize(
    ("signal", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted; nothing is left half-written"),
        (program._Terminated(15), 143, "terminated; nothing is left half-written"),
    ],
    ids=["Ctrl-C", "SIGTERM"],
)
def test_a_signal_in_the_middle_of_a_write_leaves_what_was_there(
    cli: Cli,
    trained: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    signal: BaseException,
    code: int,
    said: str,
) -> None:
    log = trained.path / "log.jsonl"
    before = {**tree(tmp_path), "ckpt/log.jsonl": b""}
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", Mock(side_effect=signal))
        result = cli.run(*command.format(ckpt=trained.path, out=tmp_path / "out", data=trained.data).split())
    assert_interrupted(result, code, said)
    no_leftovers(tmp_path)
    log.write_bytes(b"")  # a line more than was saved, which resuming cuts off
    assert tree(tmp_path) == before


FULL_DISK = """
import json, resource, sys
from raectl.cli import main as program

# The kernel refuses writes in the middle of a file, as on a full disk; output to a pipe is not limited.
resource.setrlimit(resource.RLIMIT_FSIZE, (60, 60))
for command in json.loads(sys.argv[1]):
    sys.argv = ["raectl", *command]
    print("exit", program._run(), file=sys.stderr)
"""


def test_a_disk_that_is_full_in_the_middle_of_a_file(cli: Cli, trained: Any, tmp_path: Path) -> None:
    cli("train", "--data", trained.data, "--dry-run", "--image-size", 12)  # the packed array is in the cache now
    for suffix in (".png", ".npz", ".npy"):
        (tmp_path / f"out{suffix}").write_text("of before")
    before = tree(tmp_path)
    commands = [
        command.format(ckpt=trained.path, out=tmp_path / "out", data=trained.data).split()
        for command in (
            *WRITES.values(),
            f"{TRAIN} --data {{data}} --out {tmp_path / 'new'}",
            f"{TRAIN} --data {{data}} --out {{ckpt}} --overwrite",
        )
    ]
    done = subprocess.run(
        # -B: Python 3.11 would leave a part of a module's bytecode in its cache, and fail to import it ever after.
        [sys.executable, "-B", "-c", FULL_DISK, json.dumps(commands)],
        capture_output=True,
        text=True,
        check=True,
    )
    results = re.findall(r"(.*?)^exit (\d+)\n", done.stderr, re.DOTALL | re.MULTILINE)
    assert len(results) == len(commands)
    for command, (stderr, code) in zip(commands, results, strict=True):
        assert_clear_error(Result(int(code), "", f"{command}\n{stderr}"), 1, "cannot write", "hint: free some space")
    assert done.stdout == ""
    no_leftovers(tmp_path)
    log = "ckpt/log.jsonl"  # may hold a part of a line, which is cut off when the run is resumed
    assert {**tree(tmp_path), log: b""} == {**before, log: b""}
    cli("sample", trained.path, "-o", tmp_path / "out.png")
    cli("train", "--resume", "--out", trained.path, "--epochs", 3)
