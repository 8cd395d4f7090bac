"""Standardization of latents: shift and scale of each dimension."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from raectl.densities.latents.checks import chunks
from raectl.densities.latents.oddities import find_far

_SHARE = 1e-6


@dataclass(frozen=True)
class Standardizer:
    """x = (z - centre) / scale, both (d,) float64, and the indices of the constant dimensions."""

    centre: Tensor
    scale: Tensor
    constant: list[int]

    @classmethod
    def fit_near(cls, z: Tensor) -> "Standardizer":
        """`fit` to the rows that are not far from the others, see `find_far`, so that a few do not decide the scale."""
        far, standardizer = find_far(z), cls.fit(z)
        if not bool(far.any()):
            return standardizer
        near = cls.fit(z[~far])
        scale = near.scale.clone()
        scale[near.constant] = standardizer.scale[near.constant]
        return cls(near.centre, scale, standardizer.constant)

    @classmethod
    def fit(cls, z: Tensor) -> "Standardizer":
        """Mean and standard deviation of each dimension.

        Constant ones get the root mean square of the others; if all are, 1e-6 of their value, or 1e-6.
        """
        n, d = z.shape
        centre, squares = torch.zeros(2, d, dtype=torch.float64)
        # Chunks of 2^17 numbers, whose float64 copies stay in the cache.
        for part in chunks(z, 8 * d):
            centre += part.sum(dim=0, dtype=torch.float64)
        centre /= n
        for part in chunks(z, 8 * d):
            squares += (part.double() - centre).square_().sum(dim=0)
        scale = (squares / n).sqrt()
        # A constant has the variance of its rounding errors; 1 / 1e-30 still fits float32.
        constant = scale <= torch.finfo(z.dtype).eps * centre.abs() + 1e-30
        usual = scale[~constant].square().mean().sqrt()
        if bool(constant.all()):
            usual = (_SHARE * torch.where(centre == 0, 1.0, centre.abs())).clamp_min(1e-30)
        return cls(centre, torch.where(constant, usual, scale), constant.nonzero().flatten().tolist())

    def isotropic(self) -> "Standardizer":
        """The same with one scale for all dimensions: the root mean square."""
        return Standardizer(self.centre, self.scale.square().mean().sqrt().expand_as(self.scale), self.constant)

    def rows(self, z: Tensor, width: int) -> Iterator[Tensor]:
        """Standardized rows of z in blocks, in z's dtype; `width` is the memory a row needs, see `chunks`."""
        centre, inverse = self.centre.to(z.dtype), self.scale.reciprocal().to(z.dtype)
        for part in chunks(z, width):
            yield (part - centre).mul_(inverse)

    def notices(self, n: int, directions: int, remedy: str) -> list[str]:
        """Messages for the user: n is too small for this many directions of variance, and what to try."""
        if n > directions:
            return []
        missing = f"{n:,} latents do not fix {directions:,} directions of variance"
        return [f"{missing}: reg_covar makes up the rest; {remedy}"]
