"""The squared error."""

from torch import Tensor

from raectl.model.reconstructions.base import Reconstruction, sum_values


class Squared(Reconstruction):
    """L = ||x - x_hat||^2, summed over an item's values as in the paper (Ghosh et al. 2020, section 3).

    Its minimizer is the conditional mean of x given z.

    Example:
        >>> import torch
        >>> from raectl.modalities.images import Images
        >>> Squared(Images())(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.5), step=0)
        tensor([1.])
    """

    def __call__(self, x: Tensor, x_hat: Tensor, step: int) -> Tensor:
        return sum_values((x.float() - x_hat.float()).square())
