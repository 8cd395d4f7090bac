"""K-means clustering by greedy k-means++ and Lloyd's iteration: the start of EM.

References: Lloyd, "Least Squares Quantization in PCM", IEEE Transactions on Information Theory 28, 1982. Arthur,
Vassilvitskii, "k-means++: The Advantages of Careful Seeding", SODA 2007 (section 7: several candidates per centre).
"""

import math

import torch
from torch import Tensor

_ITERATIONS = 300
_TOLERANCE = 1e-4  # converged if the centres' squared shift is below this times the mean variance


def kmeans(x: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Centres of x: (n, d) => (K, d), of x's type; a centre without points stays where it is.

    Example:
        >>> x = torch.tensor([[0.0], [1.0], [8.0], [9.0]])
        >>> kmeans(x, 2, torch.Generator().manual_seed(0)).sort(dim=0).values.flatten().tolist()
        [0.5, 8.5]
    """
    norms = torch.linalg.vector_norm(x, dim=1).square_()
    centres = _kmeans_plus_plus(x, norms, k, generator)
    threshold = _TOLERANCE * float(x.var(dim=0, correction=0).mean())
    for _ in range(_ITERATIONS):
        nearest = _squared_distances(x, norms, centres).argmin(dim=1, keepdim=True)
        members = torch.zeros(len(x), k, dtype=x.dtype).scatter_(1, nearest, 1)
        counts = members.sum(dim=0)[:, None]
        moved = torch.where(counts > 0, members.T @ x / counts, centres)
        shift = float((moved - centres).square().sum())
        centres = moved
        if shift <= threshold:
            break
    return centres


def _kmeans_plus_plus(x: Tensor, norms: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Rows of x as centres, each the best of some drawn with probability proportional to the squared distance."""
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
