"""What is odd about latents that a density is fitted to: few distinct ones, some far away."""

import numpy as np
import torch
from torch import Tensor

from raectl.densities.latents.checks import chunks

_FAR = 30.0  # robust standard deviations from the median
_FEW_FAR = 0.01  # share of latents up to which far ones are outliers rather than a cluster
_MEDIAN_ROWS = 2**14
_NORMAL_MAD = 0.6745  # median absolute deviation of N(0, 1)


def count_distinct(z: Tensor) -> int:
    """Number of distinct rows, by a 64-bit hash of each.

    Example:
        >>> count_distinct(torch.tensor([[0.0, 1.0], [1.0, 0.0], [-0.0, 1.0]]))
        2
    """
    integer = torch.int64 if z.dtype == torch.float64 else torch.int32
    odd = np.random.default_rng(0).integers(-(2**62), 2**62, z.shape[1]) * 2 + 1
    hashes = []
    for part in chunks(z, 4 * z.shape[1]):
        bits = (part + 0.0).view(integer).long()  # -0 + 0 is 0
        mixed = (bits ^ (bits >> 29)) * torch.from_numpy(odd)
        hashes.append((mixed ^ (mixed >> 32)).sum(dim=1))
    return len(np.unique(torch.cat(hashes).numpy()))


def find_far(z: Tensor) -> Tensor:
    """Whether a row has a value further from the median of its dimension than 30 robust standard deviations: (N,).

    None has, if more than a hundredth would: then they are a cluster. The robust standard deviation is the median
    absolute deviation over that of N(0, 1); a dimension where it is 0 has no say.
    """
    some = z[:: -(-len(z) // _MEDIAN_ROWS)].double()
    median = some.median(dim=0).values
    spread = (some - median).abs().median(dim=0).values / _NORMAL_MAD
    limit = torch.where(spread > 0, _FAR * spread, torch.inf)
    far = torch.cat([((part.double() - median).abs() > limit).any(dim=1) for part in chunks(z, 4 * z.shape[1])])
    return far if int(far.sum()) <= _FEW_FAR * len(z) else torch.zeros_like(far)


def oddities(z: Tensor) -> list[str]:
    """Messages for the user about latents (N, d) of which few are distinct, or some far from the others."""
    n, distinct, notices = len(z), count_distinct(z), []
    if distinct <= n // 2:
        few = f"only {distinct:,} of {n:,} latents {'is' if distinct == 1 else 'are'} distinct"
        notices.append(
            f"{few}: a density of many components repeats them; remove what is in the data more than once, or look "
            "whether the encoder tells items apart"
        )
    far = int(find_far(z).sum())
    if far:
        notices.append(
            f"{far:,} of {n:,} latents {'is' if far == 1 else 'are'} more than {_FAR:g} times the usual spread away: "
            "samples may be too wide; look at these items, and remove them if they do not belong to the data"
        )
    return notices


def too_few(z: Tensor) -> list[str]:
    """A message if latents (N, d) are no more than their dimensions."""
    n, d = z.shape
    if n > d:
        return []
    return [f"{n:,} latents are few for {d:,} dimensions: samples may be hardly more than these; try more data"]
