"""The program's share of the machine: freed memory that it keeps, and the cores that a container's quota pays for."""

import os
import platform
import subprocess
import sys

import pytest

from raectl.cores import usable_cores

FAULTS = """
import resource, sys
import numpy as np
from raectl.cli.main import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory() and keep_freed_memory()
elif sys.argv[1] != "leave":
    import raectl

    raectl.load(sys.argv[1])
for turn in range(11):
    if turn == 1:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(5_000_000).fill(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries manage memory their own way")
def test_a_block_that_is_freed_is_used_again():
    assert faults("keep") < 100 < faults("leave")  # a block has ten thousand pages of 4 KiB, or twenty of 2 MiB


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries manage memory their own way")
def test_the_library_leaves_the_memory_of_the_process_that_loads_a_checkpoint_alone(original):
    assert faults(str(original.path)) > 100


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "6400000 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({}, 8),
    ],
)
def test_a_containers_quota_of_cores(tmp_path, monkeypatch, files, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {*range(8)}, raising=False)
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert usable_cores(tmp_path) == cores
