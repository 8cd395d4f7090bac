"""The program where it is typed: on a terminal, into a pipe whose reader leaves, and with no cache of its own."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
import torch
from support.cli import Cli, assert_clear_error, terminal, unstyled

import raectl
from raectl.cli import output
from raectl.cli.terminal import TerminalProgress
from raectl.data import packing

linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems have other directories")
SMALL = "--image-size 12 --width 2 --latent-dim 4 --batch-size 16 --device cpu --precision fp32 --epochs 2"


def on_a_terminal(*arguments: object) -> tuple[int, str]:
    """Run the program with a terminal for its stderr: its exit code and what was shown there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    environment = {**os.environ, "TERM": "xterm"}
    command = [sys.executable, "-m", "raectl", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # nobody has it open any more
                break
    os.close(ours)
    return process.returncode, shown.decode()


def test_a_terminal_is_shown_a_bar_and_lines_that_stay(original: Any, tmp_path: Path) -> None:
    code, shown = on_a_terminal("train", *SMALL.split(), "--data", original.data, "--out", tmp_path / "out")
    assert code == 0
    lines = [line for line in shown.replace("\r", "\n").splitlines() if "epoch 2/2" in line]
    assert len(lines) == 1 and "validation" in lines[0]
    assert "\x1b[?25l" in shown and shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "the cursor is back"


def test_a_bar_shows_what_is_going_on(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with TerminalProgress() as progress:
        progress.update("packing [/b]\x1b[2J", 30, 1200)
        progress._bar.refresh()
        progress.note("a note")
        progress.step(7, 3, 12, {"loss": 1.25}, 1234.5, 61.0)
        progress._bar.refresh()
    shown = capfd.readouterr().err
    assert "packing [/b]\\x1b[2J" in shown and "30 of 1,200" in shown, "and a file's name cannot act on the terminal"
    assert "epoch 7" in shown and "1:01 left  1,234/s  loss 1.25" in shown
    assert shown.count("a note") == 1


@pytest.mark.parametrize("epoch", [7, 12345])
def test_a_narrow_terminal_keeps_the_epoch_in_the_bar(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], epoch: int
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    for name, value in {"TERM": "xterm", "FORCE_COLOR": "1", "COLUMNS": "80"}.items():
        monkeypatch.setenv(name, value)
    with TerminalProgress() as progress:
        terms = {"loss": 123.25, "reconstruction": 101.5, "latent": 12.34, "tikhonov": 4567.0}
        progress.step(epoch, 3, 12, terms, 11.2, 504.0)
        progress._bar.refresh()
    shown = capfd.readouterr().err
    assert f"epoch {epoch} " in shown and "8:24 left  11/s" in shown


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_tables_cut_nothing_off(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], width: int) -> None:
    terminal(monkeypatch, width)
    columns = ["", "n", *(f"measure-{index} ↓" for index in range(8))]
    rows = [[f"row-{row}", "10,000", *(f"-0.00{row}{index} ± 0.03" for index in range(8))] for row in range(3)]
    output.emit_table("title", columns, rows)
    shown = unstyled(capfd.readouterr().out)
    tables = [[re.split(r"  +", line.strip()) for line in part.splitlines()] for part in shown.split("\n\n")]
    assert max(map(len, shown.splitlines())) <= width and len(tables) > 1
    assert shown.startswith("title") and shown.count("title") == 1
    for number, row in enumerate(rows):
        parts = [table[-3 + number] for table in tables]
        assert {part[0] for part in parts} == {row[0]}, "each table names its rows"
        assert [cell for part in parts for cell in part[1:]] == row[1:]
    assert re.findall(r"measure-\d ↓", shown) == columns[2:]


def test_a_header_is_folded_where_that_saves_a_table(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    terminal(monkeypatch, 40)
    output.emit_table("", ["density", "train, nats per dimension", "held out"], [["gaussian", "-1.0370", "-1.0390"]])
    lines = unstyled(capfd.readouterr().out).splitlines()
    assert lines[-1].split() == ["gaussian", "-1.0370", "-1.0390"] and len(lines) > 2
    output.emit_table("", ["", "why"], [["", ""], ["a/" * 30, "b/" * 30]])
    assert "".join(capfd.readouterr().out.split()).count("a/") == 30, "what fits nowhere is folded, not cut"


def test_what_a_pipe_gets_is_one_table(capfd: pytest.CaptureFixture[str]) -> None:
    output.emit_table("", ["", *(f"measure-{index}" for index in range(12))], [["row", *["0.123 ± 0.01"] * 12]])
    assert len(capfd.readouterr().out.splitlines()) == 2


def test_a_reader_that_leaves_is_no_defect(trained: Any) -> None:
    script = 'set -o pipefail; "$@" | true; exit "${PIPESTATUS[0]}"'
    program = [sys.executable, "-m", "raectl", "info", trained.path]
    done = subprocess.run(["bash", "-c", script, "bash", *program], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), "0 if it had written all before the reader left"
    assert done.stderr == ""


def test_output_that_cannot_be_written(cli: Cli, trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.dup2", lambda *_: None)

    def gone(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("raectl.cli.commands.info.emit", gone)
    result = cli.run("info", trained.path)
    assert (result.code, result.out, result.err) == (1, "", "")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"RAECTL_CACHE": "/own", "XDG_CACHE_HOME": "/xdg"}, "/own"),
        pytest.param({}, "{home}/.cache/raectl", marks=linux),
        pytest.param({"XDG_CACHE_HOME": "/xdg"}, "/xdg/raectl", marks=linux),
    ],
)
def test_where_the_cache_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, environment: dict[str, str], expected: str
) -> None:
    for name in ("RAECTL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert packing.cache_directory() == Path(expected.format(home=tmp_path))


def test_items_of_another_shape_or_kind_do_not_suit(cli: Cli, trained: Any, tmp_path: Path) -> None:
    with pytest.raises(raectl.RaectlError, match=r"\(3, 8, 8\) torch.float32 is no item of this model, \(16, 16, 3\)"):
        raectl.load(trained.path, "cpu").encode(torch.zeros(2, 3, 8, 8))
    lines = tmp_path / "lines.txt"
    lines.write_text("x\n" * 30)
    result = cli.run("reconstruct", trained.path, "--data", lines, "-o", tmp_path / "out.png")
    assert_clear_error(result, 2, "lines.txt holds strings")
