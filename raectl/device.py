"""Where to compute, in which precision and memory, and in blocks of which size."""

import contextlib
import ctypes
import functools
import math
import time
from collections.abc import Iterator
from typing import TypeVar, cast

import numpy as np
import torch

from raectl.errors import UsageError

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # of malloc.h
_MIB = 2**20
_SIDE, _TRIES = 768, 6  # of the matrices that are multiplied to see which precision is faster
_CLEARLY = 1.3  # times as fast: conversions on the way cost something too


def resolve_device(name: str) -> str:
    """`auto` to the best device of this machine; any other name is checked to be available."""
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return next(device for device, there in found.items() if there)
    kind, colon, number = name.partition(":")
    if kind not in found or (colon and not (kind == "cuda" and number.isdecimal())):
        raise UsageError(f"--device {name!r} is none of auto, cpu, cuda, cuda:N, mps")
    if not found[kind] or (number and int(number) >= torch.cuda.device_count()):
        raise UsageError(f"--device {name} is not available on this machine", "--device auto takes the best there is")
    return name


def has_bf16(device: str) -> bool:
    """Whether the device multiplies bfloat16 in hardware."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device == "cpu" and bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def is_bf16_faster(device: str) -> bool:
    """Whether training in bfloat16 is faster than in float32 on a device."""
    if device != "cpu" or not has_bf16(device):
        return has_bf16(device)
    return bool(torch.cpu._is_amx_tile_supported()) or _products_in_bf16() > _CLEARLY


@functools.cache
def _products_in_bf16() -> float:
    """How many times as fast as in float32 the CPU multiplies matrices in bfloat16.

    AVX-512's bfloat16 instructions do twice the work of float32's at the same rate on some processors, and at a
    quarter of the rate on others; nothing that a processor says of itself tells which. The two are so far apart (2 and
    0.6 were measured) that other load does not turn the answer, though it moves the figure.
    """
    best: dict[torch.dtype, float] = {}
    matrices = {dtype: torch.ones(_SIDE, _SIDE, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)}
    for _ in range(_TRIES):
        for dtype, matrix in matrices.items():
            began = time.perf_counter()
            torch.mm(matrix, matrix)
            best[dtype] = min(time.perf_counter() - began, best.get(dtype, math.inf))
    return best[torch.float32] / best[torch.bfloat16]


def resolve_precision(name: str, device: str) -> str:
    """`auto` to bf16 where that is faster and to fp32 elsewhere; a bf16 that is not there is an error."""
    if name == "auto":
        return "bf16" if is_bf16_faster(device) else "fp32"
    if name == "bf16" and not has_bf16(device):
        raise UsageError(f"--precision bf16 is not available on this {device}", "--precision fp32, or auto")
    return name


@contextlib.contextmanager
def flushing_denormals() -> Iterator[None]:
    """Within, the CPU takes numbers too small for full precision (below 1e-38 in float32) for 0.

    It handles them many times as slowly as others, and the weights of dead units, which nothing but Tikhonov's penalty
    moves, decay into them: products with them slowed a run down more at every epoch (see benchmarks/README.md,
    molecules). The setting is this thread's and of those that start within.
    """
    before = _flushes_denormals()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _flushes_denormals() -> bool:
    return float(torch.full((1,), torch.finfo(torch.float32).tiny).mul(0.5)) == 0


@functools.cache
def keep_freed_memory() -> bool:
    """Have glibc keep the memory that a step frees for the next one, once a process; False where there is no glibc.

    glibc gives blocks above some megabytes back to the system when they are freed, and takes new ones page by page,
    zeroed, when they are asked for again. The activations of a training step are such blocks, and the faults took a
    sixth of its time; see benchmarks/README.md. The process holds no more at its peak, but does not shrink between
    steps.
    """
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018  # musl's malloc does otherwise, and other systems' libraries too
        wanted = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 64 * _MIB}
        return bool(min(libc.mallopt(option, value) for option, value in wanted.items()))
    except (AttributeError, OSError, TypeError):
        return False


Rows = TypeVar("Rows", bound=np.ndarray | torch.Tensor)


def padded_blocks(rows: Rows, size: int) -> Iterator[tuple[Rows, int]]:
    """Blocks of exactly `size` rows, and how many of each count: the last is padded with copies of its last row.

    A library may choose another algorithm, with other rounding, for another batch size; in blocks of one size the
    result for a row does not depend on how many rows there are.

    Example:
        >>> [(block.tolist(), count) for block, count in padded_blocks(np.arange(3), 2)]
        [([0, 1], 2), ([2, 2], 1)]
    """
    for start in range(0, len(rows), size):
        index = np.minimum(np.arange(start, start + size), len(rows) - 1)
        yield cast(Rows, rows[index]), min(size, len(rows) - start)
