"""What is done many times leaves memory and open files as they were; benchmarks/leaks.py does it a thousand times."""

import gc
from pathlib import Path
from typing import Any

import pytest
from support.cli import memory

import raectl

OPEN = Path("/proc/self/fd")
pytestmark = pytest.mark.skipif(not OPEN.exists(), reason="this system does not list open files")
MEBIBYTE = 2**20


def test_samples_and_openings_leave_nothing(original: Any, tmp_path: Path) -> None:
    def often(times: int) -> None:
        checkpoint = raectl.load(original.path, "cpu")
        for seed in range(times):
            checkpoint.write(checkpoint.sample(8, seed), tmp_path / "out.png")
            raectl.load(original.path, "cpu").density("gmm-2")
        gc.collect()

    often(20)
    files, used = {*OPEN.iterdir()}, memory("VmRSS")
    often(60)
    assert {*OPEN.iterdir()} == files
    assert memory("VmRSS") - used < 8 * MEBIBYTE
