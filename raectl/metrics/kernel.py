"""The kernel distance (squared MMD, KID) between two sets of features."""

from typing import NamedTuple

import torch
from torch import Tensor

from raectl.metrics.reference import Measured, Reference, rows_at_once


def kernel(reference: Reference, features: Tensor) -> dict[str, Measured]:
    """The set metric `kernel`: see `kernel_distance`."""
    return {"kernel": kernel_distance(reference, features)}


def kernel_distance(reference: Reference, features: Tensor) -> Measured:
    """Unbiased squared maximum mean discrepancy under a cubic polynomial kernel, with its standard error.

        k(a, b) = (a.b / D + 1)^3
        MMD^2 = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)

    over all pairs; lower is better. For equal distributions the expectation is 0 at any N and M, which are 3 at least,
    so values may be negative. With Inception's features this is the KID. It compares moments up to the third; it is
    much less sensitive than the Fréchet distance to noise of mean 0 spread over many features.

    The standard error is the two-sample delete-one jackknife's,

        SE^2 = (N - 1)/N sum_i (t_i - mean t)^2 + (M - 1)/M sum_j (s_j - mean s)^2

    with t_i and s_j the value without x_i and without y_j, in closed form from the kernel's row sums. For equal
    distributions the statistic is degenerate and the standard error is too large.

    Products are taken in the features' precision, everything else in float64.

    References:
        Demystifying MMD GANs, Binkowski, Sutherland, Arbel, Gretton, 2018, section 4 (KID).
        A Kernel Two-Sample Test, Gretton, Borgwardt, Rasch, Schölkopf, Smola, 2012, lemma 6.
        The Jackknife Estimate of Variance, Efron, Stein, 1981.

    Example:
        >>> x = torch.arange(8.0).reshape(4, 2)
        >>> kernel_distance(Reference(x), x + 5).value > kernel_distance(Reference(x), x + 1).value
        True
    """
    sums = _sums(reference, features)
    variance = _jackknife(sums.within_x, sums.mean_x) + _jackknife(sums.within_y, sums.mean_y)
    return Measured(sums.distance, float(variance.sqrt()))


def kernel_difference(reference: Reference, first: Tensor, second: Tensor) -> Measured:
    """The difference of two sets' kernel distances to the real items: positive if the first is farther from them.

    The standard error is the three-sample jackknife's, which accounts for the correlation by the shared real items.

    Example:
        >>> x = torch.arange(8.0).reshape(4, 2)
        >>> kernel_difference(Reference(x), x + 5, x + 1).value > 0
        True
    """
    a, b = _sums(reference, first), _sums(reference, second)
    variance = _jackknife(a.within_y, a.mean_y) + _jackknife(b.within_y, b.mean_y)
    variance += _jackknife(torch.zeros_like(a.within_x), a.mean_x - b.mean_x)  # the sums within x cancel
    return Measured(a.distance - b.distance, float(variance.sqrt()))


class _Sums(NamedTuple):
    """For each item, the sum of the kernel with the others of its set, and the mean with the other set."""

    within_x: Tensor
    within_y: Tensor
    mean_x: Tensor
    mean_y: Tensor

    @property
    def distance(self) -> float:
        n, m = len(self.within_x), len(self.within_y)
        within = self.within_x.sum() / (n * (n - 1)) + self.within_y.sum() / (m * (m - 1))
        return float(within - 2 * self.mean_x.mean())


def _sums(reference: Reference, features: Tensor) -> _Sums:
    y = reference.check(features, least=3, why="the kernel distance's standard error")
    across_x, across_y = _across(reference.features, y)
    return _Sums(reference.once(_within), _within(y), across_x / len(across_y), across_y / len(across_x))


def _jackknife(within: Tensor, mean: Tensor) -> Tensor:
    """Variance of the MMD when one item of a set is left out at a time, from that set's sums (see `_Sums`)."""
    n = len(within)
    # Without item i, up to terms that are the same for all i: the sum within loses its row and column.
    left_out = -2 * within / ((n - 1) * (n - 2)) + 2 * mean / (n - 1)
    return (n - 1) / n * (left_out - left_out.mean()).square().sum()


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    # (N, D), (M, D) => (N, M) float64
    dtype = torch.promote_types(a.dtype, b.dtype)
    return (a.to(dtype) @ b.T.to(dtype)).double().div_(a.shape[1]).add_(1).pow_(3)


def _within(x: Tensor) -> Tensor:
    """sum_{j != i} k(x_i, x_j) for each i."""
    sums = torch.zeros(len(x), dtype=torch.float64)
    rows = rows_at_once(len(x))
    for start in range(0, len(x), rows):
        k = _kernel(x[start : start + rows], x[start:])
        k.fill_diagonal_(0)
        stop = start + len(k)
        sums[start:stop] += k.sum(dim=1)
        sums[stop:] += k[:, len(k) :].sum(dim=0)
    return sums


def _across(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """sum_j k(x_i, y_j) for each i, and sum_i k(x_i, y_j) for each j."""
    rows, columns = [], torch.zeros(len(y), dtype=torch.float64)
    for part in torch.split(x, rows_at_once(len(y))):
        k = _kernel(part, y)
        rows.append(k.sum(dim=1))
        columns += k.sum(dim=0)
    return torch.cat(rows), columns
