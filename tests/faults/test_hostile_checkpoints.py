"""Somebody else's checkpoint can neither run code nor eat the machine: it is refused in one clear line, or harmless."""

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.cli import ESCAPE, Cli, assert_clear_error, tree
from support.hostile import CANARY, FIT, INFO, KINDS, LOGS, RESUME, SAMPLE

from raectl.checkpoint.directory import Directory

COMMANDS = {
    INFO: "info {ckpt}",
    SAMPLE: "sample {ckpt} --density gmm-2 -n 3 -o {home}/out.npz",
    RESUME: "train --resume --out {ckpt} --epochs 3",
    FIT: "fit-density {ckpt} --density gaussian --name new",
}
SECONDS = 20


@pytest.fixture(autouse=True)
def _bounded_time() -> Iterator[None]:
    """A command that waits for a pipe, or reads a device, ends the test."""

    def late(*_: object) -> None:
        raise AssertionError("it takes too long")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


def outside(home: Path) -> dict[str, dict[str, bytes]]:
    """What lies beside the directory; in it there may be what has no end."""
    return {path.name: tree(path) for path in home.iterdir() if path.name not in ("ckpt", "out.npz")}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.usefixtures("bounded_memory")
def test_a_hostile_checkpoint(
    cli: Cli, original: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for command, text in COMMANDS.items():
        home = tmp_path / command
        ckpt = Path(shutil.copytree(original.path, home / "ckpt"))
        (ckpt / "latents").mkdir(exist_ok=True)
        monkeypatch.chdir(home)
        KINDS[name].build(ckpt)
        before = outside(home)
        result = cli.run(*text.format(ckpt=ckpt, home=home).split())
        if command in KINDS[name].refused:
            assert_clear_error(result, 1)
            assert all(len(line) < 5000 for line in result.err.splitlines())
        else:
            assert result.code == 0, f"{command} -> {result.code}\n{result.err}"
            assert ESCAPE not in result.out + result.err
        assert not Path(CANARY).exists(), "it ran code"
        assert outside(home) == before, "what lies outside of the directory is as it was"


@pytest.mark.parametrize("name", LOGS)
@pytest.mark.usefixtures("bounded_memory")
def test_hostile_measurements(tmp_path: Path, name: str) -> None:
    line = {"metric": "mse", "value": 0.5, "of": "reconstructions"}
    (tmp_path / "metrics.jsonl").write_bytes(LOGS[name] + b"\n" + json.dumps(line).encode() + b"\n")
    assert Directory(tmp_path).read_metrics() == [line]


def test_there_are_enough_kinds() -> None:
    assert len(KINDS) >= 40
    assert sum(bool(kind.refused) for kind in KINDS.values()) >= 40


@pytest.mark.parametrize("name", ["..", "../gmm-2", "gmm-2/../gmm-2", "/etc", ".hidden", "a b", "\x1b[2J"])
def test_a_name_leads_nowhere(cli: Cli, trained: Any, tmp_path: Path, name: str) -> None:
    before = tree(trained.path)
    assert_clear_error(cli.run("sample", trained.path, "--density", name, "-o", tmp_path / "out.npz"), 1)
    assert_clear_error(cli.run("fit-density", trained.path, "--density", "gaussian", "--name", name), 2, "--name")
    assert tree(trained.path) == before
