"""Where latents lie and how far they spread: the units in which densities are fitted."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from raectl.densities.base import chunks


@dataclass(frozen=True)
class Standardizer:
    """Where the data lie: x = (z - centre) / scale, both (d,) float64, and which dimensions are constant."""

    centre: Tensor
    scale: Tensor
    constant: list[int]

    @classmethod
    def fit(cls, z: Tensor) -> "Standardizer":
        """Mean and standard deviation of each dimension; a constant one has the root mean square of the others'."""
        n, d = z.shape
        centre, squares = torch.zeros(2, d, dtype=torch.float64)
        # Pieces of 2^17 numbers, whose float64 copies stay in the cache; added at once, since small results that are
        # kept lie between the freed copies and let memory grow with n.
        for part in chunks(z, 8 * d):
            centre += part.sum(dim=0, dtype=torch.float64)
        centre /= n
        for part in chunks(z, 8 * d):
            squares += (part.double() - centre).square_().sum(dim=0)
        scale = (squares / n).sqrt()
        # What is left of a constant after rounding is no variance; below 1e-30 float32 could not hold 1 / scale.
        constant = scale <= torch.finfo(z.dtype).eps * centre.abs() + 1e-30
        usual = float(scale[~constant].square().mean().sqrt()) if not bool(constant.all()) else 1.0
        return cls(centre, torch.where(constant, usual, scale), constant.nonzero().flatten().tolist())

    def isotropic(self) -> "Standardizer":
        """The same with one scale for all dimensions."""
        return Standardizer(self.centre, self.scale.square().mean().sqrt().expand_as(self.scale), self.constant)

    def rows(self, z: Tensor, width: int) -> Iterator[Tensor]:
        """Chunks of x, of z's type."""
        centre, inverse = self.centre.to(z.dtype), self.scale.reciprocal().to(z.dtype)
        for part in chunks(z, width):
            yield (part - centre).mul_(inverse)

    def notices(self, n: int, directions: int) -> list[str]:
        """Sentences for the user about n latents that fix this many directions of variance only by the ridge."""
        notices = []
        if n <= directions:
            notices.append(f"{n} latents do not fix {directions} directions of variance: reg_covar makes up the rest")
        if self.constant:
            shown = ", ".join(str(i) for i in self.constant[:8]) + (", ..." if len(self.constant) > 8 else "")
            notices.append(
                f"{len(self.constant)} latent dimensions are constant ({shown}): the encoder leaves them unused"
            )
        return notices
