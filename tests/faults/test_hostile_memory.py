"""No data eat the memory: the dangerous kinds of `tests/hostile_corpus.py`, each in a process whose peak is read."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.hostile_corpus import KINDS

LARGEST_PEAK = 1000  # MB above the idle process
_MEASURED = """
import sys
from raectl.cli import main
import raectl.data.checking
def peak():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024
idle = peak()
code = main._run()
print(code, peak() - idle, file=sys.stderr)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.dangerous])
def test_hostile_data_take_bounded_memory(tmp_path: Path, name: str) -> None:
    (tmp_path / "home").mkdir()
    kind = KINDS[name]
    source = kind.build(tmp_path / "home")
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, "check", str(source), "--json"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "RAECTL_CACHE": str(tmp_path / "cache")},
    )
    *said, last = done.stderr.splitlines()
    code, peak = last.split()
    print(f"{name}: {float(peak):.0f} MB")
    assert "Traceback" not in done.stderr and len(said) <= 3
    assert int(code) == (1 if kind.outcome == "error" else 0), done.stderr
    assert kind.said in (done.stdout if kind.outcome == "skipped" else done.stderr)
    assert float(peak) < LARGEST_PEAK
