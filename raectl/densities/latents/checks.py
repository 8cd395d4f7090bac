"""Which arrays are latents, and in which precision they are taken."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raectl.errors import RaectlError

LARGEST = 1e18  # larger values have squares that overflow float32; an encoder that gives them has diverged
_CHUNK = 2**20  # numbers held at once where rows are processed in chunks: 8 MiB of float64


def chunks(z: Tensor, width: int) -> Iterator[Tensor]:
    """Blocks of consecutive rows of `z`, of a size that takes about 2^20 numbers of memory at `width` numbers a row."""
    rows = max(64, _CHUNK // width)
    return (z[i : i + rows] for i in range(0, len(z), rows))


def as_latents(z: Any) -> Tensor:
    """Check latents, anything that `torch.as_tensor` takes, and return them as a CPU tensor, copied only if necessary.

    Returns:
        (N, d) float64 if `z` is float64, numbers of Python or integers of 32 bits or more; else float32.

    Raises:
        RaectlError: the shape is not (N, d) with N, d >= 1, or a value is not a number, not finite, or above 1e18.

    Example:
        >>> as_latents([[0.0, 1.0]]).shape
        torch.Size([1, 2])
    """
    try:
        if isinstance(z, np.ndarray) and min(z.strides, default=0) < 0:
            z = z.copy()  # torch has no negative strides
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writ", UserWarning)  # it is only read
            latents: Tensor = torch.as_tensor(z).detach().cpu()
            if latents.dtype == torch.float32 and not hasattr(z, "dtype"):
                latents = torch.as_tensor(z, dtype=torch.float64)  # Python's numbers are doubles
    except (TypeError, ValueError, RuntimeError) as error:
        raise RaectlError(f"latents must be an array of numbers: {error}") from error
    if latents.ndim != 2 or 0 in latents.shape:
        raise RaectlError(f"latents must have shape (N, d), at least (1, 1), not {tuple(latents.shape)}")
    if latents.is_complex() or latents.dtype == torch.bool:
        raise RaectlError(f"latents must be real numbers, not {str(latents.dtype).removeprefix('torch.')}")
    is_double = latents.dtype == torch.float64 or (not latents.is_floating_point() and latents.itemsize >= 4)
    latents = latents.to(torch.float64 if is_double else torch.float32)
    # `<=` is false for NaN too. In chunks: the comparison makes copies.
    bad = torch.cat([(part.abs() <= LARGEST).all(dim=1).logical_not() for part in chunks(latents, latents.shape[1])])
    if count := int(bad.sum()):
        are = f"{count:,} of {len(latents):,} latents {'is' if count == 1 else 'are'} not finite"
        where = f"(NaN, infinite or beyond {LARGEST:g}), the first in row {int(bad.int().argmax())}"
        raise RaectlError(f"{are} {where}", "the encoder may have diverged: look at its log, or remove these rows")
    return latents


def check_components(components: int, n: int) -> None:
    """Raise a `RaectlError` if these are more components than latents; the user need not have typed their number."""
    if components > n:
        what = f"{components:,} component{'s are' if components > 1 else ' is'} more than the {n:,} latent"
        raise RaectlError(f"{what}{'' if n == 1 else 's'}", f"use --components {n} or fewer")
