"""The kernel distance between two sets of features."""

from torch import Tensor


def kernel_distance(x: Tensor, y: Tensor) -> Tensor:
    """Unbiased squared maximum mean discrepancy under a cubic polynomial kernel, in the features' own units.

        k(a, b) = (a.b / D + 1)^3,   MMD^2 = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean k(x_i, y_j)

    0 in expectation where both sets have one distribution, at any n, so it may be negative. Lower is nearer.

    References: Binkowski, Sutherland, Arbel, Gretton, "Demystifying MMD GANs", ICLR 2018 (KID); Gretton et al., "A
    Kernel Two-Sample Test", JMLR 13, 2012, lemma 6.

    Arguments:
        x: (N, D) features, N at least 2.
        y: (M, D) features, M at least 2.

    Returns:
        A float64 scalar.

    Example:
        >>> import torch
        >>> x = torch.arange(6.0).reshape(3, 2)
        >>> bool(kernel_distance(x, x + 5) > kernel_distance(x, x + 1))
        True
    """
    x, y = x.double(), y.double()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def within(a: Tensor) -> Tensor:
        k = kernel(a, a)
        return (k.sum() - k.diagonal().sum()) / (len(a) * (len(a) - 1))

    return within(x) + within(y) - 2 * kernel(x, y).mean()
