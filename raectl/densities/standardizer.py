"""Standardization of latents: shift and scale of each dimension."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from raectl.densities.base import chunks


@dataclass(frozen=True)
class Standardizer:
    """x = (z - centre) / scale, both (d,) float64, and the indices of the constant dimensions."""

    centre: Tensor
    scale: Tensor
    constant: list[int]

    @classmethod
    def fit(cls, z: Tensor) -> "Standardizer":
        """Mean and standard deviation of each dimension; constant ones get the root mean square of the others, or 1."""
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
        usual = float(scale[~constant].square().mean().sqrt()) if not bool(constant.all()) else 1.0
        return cls(centre, torch.where(constant, usual, scale), constant.nonzero().flatten().tolist())

    def isotropic(self) -> "Standardizer":
        """The same with one scale for all dimensions: the root mean square."""
        return Standardizer(self.centre, self.scale.square().mean().sqrt().expand_as(self.scale), self.constant)

    def rows(self, z: Tensor, width: int) -> Iterator[Tensor]:
        """Standardized rows of z in blocks, in z's dtype; `width` is the memory a row needs, see `chunks`."""
        centre, inverse = self.centre.to(z.dtype), self.scale.reciprocal().to(z.dtype)
        for part in chunks(z, width):
            yield (part - centre).mul_(inverse)

    def notices(self, n: int, directions: int) -> list[str]:
        """Messages for the user: n is too small for this many directions of variance, or dimensions are constant."""
        notices = []
        if n <= directions:
            notices.append(f"{n} latents do not fix {directions} directions of variance: reg_covar makes up the rest")
        if self.constant:
            shown = ", ".join(str(i) for i in self.constant[:8]) + (", ..." if len(self.constant) > 8 else "")
            notices.append(
                f"{len(self.constant)} latent dimensions are constant ({shown}): the encoder leaves them unused"
            )
        return notices
