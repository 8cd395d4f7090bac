"""A stdout that cannot hold every sign, such as an ordinary pipe on Windows, gets the same with other signs."""

import io
import os
import subprocess
import sys

import pytest

from raectl.cli import output

COLUMNS = ["", "kernel ↓", "recall ↑", "copied → 0.5"]
ROWS = [["gmm-10", "0.0021 ± 0.0004", "0.9", "-"], ["Müller/日本.png", "1", "\N{EN DASH}", "…"]]


def printed(monkeypatch, encoding):
    pipe = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(pipe, encoding=encoding, write_through=True))
    output.emit_table("n = 5 ± 1", COLUMNS, ROWS)
    output.emit({}, {"copied": "0.5 ± 0.1", "source": "/tmp/日本"}, as_json=False)
    return pipe.getvalue().decode(encoding)


def test_a_title_is_not_folded_to_the_width_of_its_table(monkeypatch):
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stdout", pipe)
    title = "mse, n = 597, pixels-32px-v1, seed 2"
    output.emit_table(title, ["", "mse"], [["a", "0.1"]])
    assert pipe.getvalue().splitlines()[0] == title


def test_nothing_is_folded_in_a_pipe(monkeypatch):
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stdout", pipe)
    path = "/data/" + "x" * 300
    output.emit({}, {"path": path}, as_json=False)
    output.emit_table("", ["", *map(str, range(90))], [[path, *range(90)]])
    assert [path in line for line in pipe.getvalue().splitlines()] == [True, False, True]


def test_signs_are_replaced_where_they_cannot_be_written(monkeypatch):
    with monkeypatch.context() as patch:
        whole = printed(patch, "utf-8")
    assert all(sign in whole for sign in "↓↑→±\N{EN DASH}…") and "日本" in whole
    for encoding in ("cp1252", "latin-1", "ascii"):
        with monkeypatch.context() as patch:
            shown = printed(patch, encoding)
        for word in ("kernel v", "recall ^", "copied -> 0.5", "gmm-10", "\\u65e5\\u672c"):
            assert word in shown, (encoding, word)
        assert len(shown.splitlines()) == len(whole.splitlines())
        assert ("0.0021 +- 0.0004" in shown) == (encoding == "ascii")
        assert ("Müller" in shown) == (encoding != "ascii")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_commands_exit_0(original, encoding):
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    for arguments in (("evaluate", "--help"), ("presets",), ("info", original.path)):
        command = [sys.executable, "-m", "raectl", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.decode(encoding)
