"""Whatever happens to the process or the disk: what was saved is there, and going on gives what nothing disturbed.

The faults are those of benchmarks/kill.py, fewer of them. It ends with an error at the first thing that is lost; here
its table is looked at as well, so that it cannot pass by trying nothing.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[1] / "benchmarks" / "kill.py"
COMMANDS = 8
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it forks, and counts on Linux's signals")


def tried(tmp_path: Path, *arguments: object) -> list[dict[str, Any]]:
    """What the program tried, having lost nothing."""
    log = tmp_path / "log.jsonl"
    command = [sys.executable, str(PROGRAM), *map(str, arguments), "--log", str(log)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **ONE_THREAD})
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in log.read_text().splitlines()]


ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def test_twenty_kills_at_random_moments(tmp_path: Path) -> None:
    lines = tried(tmp_path, "--kills", 20, "--seed", 3)
    assert len(lines) == 20
    assert len({line["scenario"] for line in lines}) == COMMANDS
    assert {int(4 * line["at"]) for line in lines} == {0, 1, 2, 3}, "spread over the whole of the commands"
    assert max(line["lost"] for line in lines) <= 1


def test_kills_before_file_operations(tmp_path: Path) -> None:
    lines = tried(tmp_path, "--points", "--step", 17)
    assert set(Counter(line["scenario"] for line in lines)) and len(lines) > 2 * COMMANDS
    assert max(line["lost"] for line in lines) <= 1, "the epoch whose line is written before its state"


def test_a_disk_that_refuses(tmp_path: Path) -> None:
    lines = tried(tmp_path, "--disk", "--step", 29)
    assert len({line["fault"] for line in lines}) == 4
    assert len({line["scenario"] for line in lines}) == COMMANDS


def test_the_program_notices_what_is_lost(tmp_path: Path) -> None:
    """Writes without a temporary file, as they should not be, do not pass."""
    broken = f"""
import contextlib, runpy, sys
from raectl import files
@contextlib.contextmanager
def in_place(path):
    yield path
files.atomic_file = in_place
sys.argv = ["kill.py", "--points", "--scenarios", "Resumed", "--step", "2"]
sys.path.insert(0, {str(PROGRAM.parent)!r})
runpy.run_path({str(PROGRAM)!r}, run_name="__main__")
"""
    command = [sys.executable, "-c", broken]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **ONE_THREAD})
    assert done.returncode == 1
    assert "LostError" in done.stderr
