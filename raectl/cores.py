"""How many cores this process may use."""

import contextlib
import math
import os
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")


def usable_cores(groups: Path = _GROUPS) -> int:
    """Those that it may run on, or those that a container's quota of time pays for, rounded up, if they are fewer.

    More threads than that would be stopped for the rest of each period, all of them.

    Arguments:
        groups: where Linux shows control groups, of version 2 or 1.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        with contextlib.suppress(OSError, ValueError):  # ValueError: "max"
            quota, period = map(int, " ".join((groups / name).read_text() for name in files).split())
            if quota > 0 and period > 0:
                return min(cores, math.ceil(quota / period))
    return cores
