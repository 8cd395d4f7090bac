"""Devices, floating-point precision, and blocks of equal batch size."""

import contextlib
import functools
import math
import time
from collections.abc import Iterator
from typing import TypeVar, cast

import numpy as np
import torch

from raectl.errors import UsageError

_SIDE, _TRIES = 768, 6  # side of the benchmark's matrices, repetitions
_SPEEDUP = 1.3  # least speedup of matrix products at which bfloat16 pays, given the cost of conversions


def resolve_device(name: str) -> str:
    """The best device of this machine for `auto`; any other name is checked for availability."""
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return next(device for device, available in found.items() if available)
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
    return bool(torch.cpu._is_amx_tile_supported()) or _products_in_bf16() > _SPEEDUP


@functools.cache
def _products_in_bf16() -> float:
    """The speedup of bfloat16 over float32 for matrix products on this CPU, measured.

    It is about 2 on some processors with AVX-512 bfloat16 instructions and 0.6 on others, and no CPU flag tells which.
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
    """For `auto`, bf16 if that is faster, else fp32; bf16 is a `UsageError` if the device does not support it."""
    if name == "auto":
        return "bf16" if is_bf16_faster(device) else "fp32"
    if name == "bf16" and not has_bf16(device):
        raise UsageError(f"--precision bf16 is not available on this {device}", "--precision fp32, or auto")
    return name


@contextlib.contextmanager
def flushing_denormals() -> Iterator[None]:
    """Inside, the CPU treats denormal numbers (below 1e-38 in float32) as 0.

    Operations on them are many times slower, and Tikhonov's penalty drives the weights of dead units to them (see
    benchmarks/README.md, molecules). The setting holds for this thread and for threads that it starts inside.
    """
    before = float(torch.full((1,), torch.finfo(torch.float32).tiny).mul(0.5)) == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


Rows = TypeVar("Rows", bound=np.ndarray | torch.Tensor)


def padded_blocks(rows: Rows, size: int) -> Iterator[tuple[Rows, int]]:
    """Blocks of exactly `size` rows, with their numbers of valid rows; the last is padded with copies of its last row.

    Rounding may depend on the batch size, so results for a row are reproducible only with blocks of one size.

    Example:
        >>> [(block.tolist(), count) for block, count in padded_blocks(np.arange(3), 2)]
        [([0, 1], 2), ([2, 2], 1)]
    """
    for start in range(0, len(rows), size):
        index = np.minimum(np.arange(start, start + size), len(rows) - 1)
        yield cast(Rows, rows[index]), min(size, len(rows) - start)
