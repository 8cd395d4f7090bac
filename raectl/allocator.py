"""Keep the memory that a step frees for the next one.

glibc gives blocks above some megabytes back to the system when they are freed, and takes new ones page by page, zeroed,
when they are asked for again. The activations of a training step are such blocks, and the faults took a sixth of its
time; see benchmarks/README.md. The process holds no more at its peak, but does not shrink between steps.
"""

import ctypes
import functools

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # of malloc.h
_MIB = 2**20


@functools.cache
def keep_freed_memory() -> bool:
    """Ask the C library, once a process; False where it is not glibc, which changes nothing."""
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018  # musl's malloc does otherwise, and other systems' libraries too
        wanted = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 64 * _MIB}
        return bool(min(libc.mallopt(option, value) for option, value in wanted.items()))
    except (AttributeError, OSError, TypeError):
        return False
