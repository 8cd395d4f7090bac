"""Precision, recall, density and coverage (PRDC), from nearest neighbours of real and generated items."""

from collections.abc import Iterator

import torch
from torch import Tensor

from raectl.metrics.reference import Measured, Reference, rows_at_once

_NEIGHBOURS = 5  # k


def prdc(reference: Reference, features: Tensor) -> dict[str, Measured]:
    """The set metric `prdc`: precision, recall, density and coverage with k = 5 neighbours. Higher is better.

    With r(x_i) the distance from a real item to its k-th nearest real one, and r(y_j) the same for generated items:

        precision = mean_j [some i has |x_i - y_j| < r(x_i)]        generated items near a real one
        recall    = mean_i [some j has |x_i - y_j| < r(y_j)]        real items near a generated one
        density   = 1 / (k M) sum_{i, j} [|x_i - y_j| < r(x_i)]     number of real items near a generated one, over k
        coverage  = mean_i [some j has |x_i - y_j| < r(x_i)]        real items with a generated one near them

    They depend on k, N and M, which are 6 at least: compare values at equal ones only. For equal distributions and
    N = M the expectations are 1 for density and about 1 - 2^-k = 0.97 for coverage; precision and recall depend on the
    distribution. Values agree with the `prdc` package. Distances are computed in float64; squared ones below the
    rounding error are set to 0. A copy is near whatever the radius, also that of an item with k copies in its set,
    which is 0 (`prdc` finds none).

    References:
        Improved Precision and Recall Metric for Assessing Generative Models, Kynkäänniemi, Karras, Laine, Lehtinen,
        Aila, 2019.
        Reliable Fidelity and Diversity Metrics for Generative Models, Naeem, Oh, Uh, Choi, Yoo, 2020.

    Example:
        >>> x = torch.arange(12.0).reshape(12, 1)
        >>> {name: measured.value for name, measured in prdc(Reference(x), x + 100).items()}
        {'precision': 0.0, 'recall': 0.0, 'density': 0.0, 'coverage': 0.0}
    """
    why = f"a radius that reaches to neighbour {_NEIGHBOURS}"
    y = reference.check(features, least=_NEIGHBOURS + 1, why=why)
    radii_x, radii_y = reference.once(_radii), _radii(y)
    precise = torch.zeros(len(y), dtype=torch.bool)
    pairs = recalled = covered = 0
    for squares, radii in zip(_squares(reference.features, y), torch.split(radii_x, rows_at_once(len(y))), strict=True):
        near = squares < radii[:, None]
        precise |= near.any(dim=0)
        pairs += int(near.sum())
        covered += int(near.any(dim=1).sum())
        recalled += int((squares < radii_y).any(dim=1).sum())
    n, m = len(reference.features), len(y)
    return {
        "precision": Measured(float(precise.double().mean())),
        "recall": Measured(recalled / n),
        "density": Measured(pairs / (_NEIGHBOURS * m)),
        "coverage": Measured(covered / n),
    }


def _radii(features: Tensor) -> Tensor:
    """(N,) squared distances from each item to its k-th nearest other one, above 0, so that copies are within."""
    count = _NEIGHBOURS + 1  # with the item itself
    nearest = [squares.topk(count, dim=1, largest=False).values for squares in _squares(features, features)]
    return torch.cat(nearest)[:, -1].clamp_min(torch.finfo(torch.float64).tiny)


def _squares(a: Tensor, b: Tensor) -> Iterator[Tensor]:
    """|a_i - b_j|^2, a block of rows at a time: (N, D), (M, D) => (rows, M).

    The features are not centred: exactly equal distances, as between integers, must stay equal.
    """
    blocks = torch.split(b, rows_at_once(b.shape[1]))  # converted to float64 one by one, to save memory
    lengths = torch.cat([block.double().square().sum(dim=1) for block in blocks])
    rounding = 1e-12 * lengths
    for part in torch.split(a, rows_at_once(len(b))):
        rows = part.double()
        squares = torch.cat([rows @ block.double().T for block in blocks], dim=1).mul_(-2).add_(lengths)
        squares += rows.square().sum(dim=1)[:, None]
        yield squares.masked_fill_(squares < rounding, 0)
