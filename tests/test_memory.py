"""Freed memory is kept: a block that is freed and asked for again is not taken from the system page by page."""

import platform
import subprocess
import sys

import pytest

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
