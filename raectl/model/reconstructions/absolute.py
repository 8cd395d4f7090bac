"""The absolute error, which begins as the squared one."""

from torch import Tensor

from raectl.config import Option
from raectl.model.reconstructions.base import Reconstruction, sum_values

_MOST = 1_000_000_000


class Absolute(Reconstruction):
    """L = sum over an item's values of rho(e), with e = x - x_hat:

        rho(e) = (1 - a) e^2 + a |e|,   a = clip((step - start) / length, 0, 1)

    The minimizer of sum |e| is the conditional median of x given z, which for values that are nearly 0 or 1 is nearly
    0 or 1, too. That of e^2 is the mean. Where most values are 0, the median is 0 before z says anything, and training
    by sum |e| alone can stall at all-black images; so the first steps are by e^2.

    Example:
        >>> import torch
        >>> from raectl.modalities.images import Images
        >>> term = Absolute(Images(), start=0, length=10)
        >>> [term(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.5), step).item() for step in (0, 5, 10, 99)]
        [1.0, 1.5, 2.0, 2.0]
    """

    start = Option(250, "The step at which the absolute error sets in.", low=0, high=_MOST)
    length = Option(500, "Steps from there until it is alone; 0 is at once.", low=0, high=_MOST)

    @property
    def constant_from(self) -> int:
        return self.start + self.length

    def share(self, step: int) -> float:
        """a, the weight of the absolute error at a step."""
        if step >= self.constant_from:  # also where length is 0
            return 1.0
        return max(0, step - self.start) / self.length if self.length else 0.0

    def __call__(self, x: Tensor, x_hat: Tensor, step: int) -> Tensor:
        errors, a = x.float() - x_hat.float(), self.share(step)
        if a in (0, 1):  # most steps, in a third of the time
            return sum_values(errors.abs() if a else errors.square())
        return sum_values(errors.square().lerp(errors.abs(), a))
