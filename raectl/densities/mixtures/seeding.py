"""Rows far from each other, as first means of a mixture: greedy k-means++.

Reference: Arthur, Vassilvitskii, "k-means++: The Advantages of Careful Seeding", SODA 2007 (section 7: several
candidates per centre).
"""

import math

import torch
from torch import Tensor


def spread_rows(x: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """K rows of x: (n, d) => (K, d), each the best of some drawn with probability proportional to the squared distance.

    Example:
        >>> x = torch.tensor([[0.0], [0.0], [8.0], [8.0]])
        >>> spread_rows(x, 2, torch.Generator().manual_seed(0)).sort(dim=0).values.flatten().tolist()
        [0.0, 8.0]
    """
    norms = torch.linalg.vector_norm(x, dim=1).square_()
    rows = torch.randint(len(x), (1,), generator=generator)
    nearest = _squared_distances(x, norms, x[rows])[:, 0]
    for _ in range(1, k):
        cumulative = nearest.cumsum(dim=0, dtype=torch.float64)
        u = torch.rand(2 + int(math.log(k)), generator=generator, dtype=torch.float64)
        drawn = torch.searchsorted(cumulative, u * cumulative[-1], right=True).clamp_(max=len(x) - 1)
        squares = torch.minimum(_squared_distances(x, norms, x[drawn]), nearest[:, None])  # (n, drawn)
        best = squares.sum(dim=0).argmin()
        rows, nearest = torch.cat([rows, drawn[best, None]]), squares[:, best]
    return x[rows]


def _squared_distances(x: Tensor, norms: Tensor, centres: Tensor) -> Tensor:
    """|x_n - c_k|^2: (n, K), by one matrix product."""
    return torch.addmm(norms[:, None] + centres.square().sum(dim=1), x, centres.T, alpha=-2).clamp_(min=0)
