"""Whatever happens to the process or the disk: what was saved is there, and going on gives what nothing disturbed.

The faults are those of benchmarks/kill.py, fewer of them. It ends with an error at the first thing that is lost; here
its log is looked at as well, so that it cannot pass by trying nothing.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "kill.py"
COMMANDS = 14
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it forks, and counts on Linux's signals")


def run(*command: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, check=False, env=environment
    )


def test_no_fault_loses_what_was_saved(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    done = run(PROGRAM, "--kills", 22, "--seed", 3, "--points", "--disk", "--step", 101, "--log", log)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    kills = of(lines, "killed at a random moment")
    assert len(kills) == 22
    assert {int(4 * line["at"]) for line in kills} == {0, 1, 2, 3}, "spread over the whole of the commands"
    for fault in ("killed before a file", "no space", "the disk full", "a read-only", "the directory"):
        assert len(of(lines, fault)) >= COMMANDS
    assert max(line["lost"] for line in lines) <= 1, "epochs that were logged and not saved"


def of(lines: list[dict[str, Any]], fault: str) -> list[dict[str, Any]]:
    found = [line for line in lines if line["fault"].startswith(fault)]
    assert len({line["scenario"] for line in found}) == COMMANDS, fault
    return found


BROKEN = f"""
import contextlib, runpy, sys
from raectl.storage import atomic

@contextlib.contextmanager
def in_place(path):
    yield path

atomic.atomic_file = in_place
sys.argv = ["kill.py", "--points", "--scenarios", "Resumed"]
sys.path.insert(0, {str(PROGRAM.parent)!r})
runpy.run_path({str(PROGRAM)!r}, run_name="__main__")
"""


def test_the_program_notices_what_is_lost() -> None:
    """Files that are written in place, as they should not be, do not pass."""
    done = run("-c", BROKEN)
    assert done.returncode == 1
    assert "LostError" in done.stderr
