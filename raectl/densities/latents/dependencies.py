"""Dimensions that carry nothing of their own: constant ones, and those that equal another but for shift and scale.

They are left out before a density is fitted, and put back into its samples:

    z_j = centre_j                                        j constant
    z_j = centre_j + slope_j (z_i - centre_i)             j follows i

Their density is a narrow normal one around this value, so that latents which deviate are very unlikely.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from raectl.densities.latents.checks import chunks
from raectl.densities.latents.standardizer import Standardizer

_NARROW = 1e-3  # standard deviation around that value, relative to the dimension's own; sqrt of mixtures' reg_covar
_ROUNDINGS = 8.0  # of the latents' type, that two dimensions may be apart
_CORRELATED = 1 - 1e-4  # of which pairs are compared value by value


@dataclass(frozen=True)
class Dependencies:
    """For each of the d dimensions, (d,) float64 each."""

    source: Tensor  # the dimension that it follows: itself if it is free, -1 if it is constant
    centre: Tensor
    slope: Tensor  # 0 for a constant
    narrow: Tensor  # standard deviation of the normal density around the value

    @classmethod
    def find(cls, z: Tensor) -> "Dependencies | None":
        """Those of latents (N, d); None if all dimensions are free. The first dimension is, if all are constant."""
        d, standardizer = z.shape[1], Standardizer.fit(z)
        source = torch.arange(d)
        source[standardizer.constant] = -1
        if len(standardizer.constant) == d:
            source[0] = 0
        signs = torch.zeros(d, dtype=torch.float64)
        for i, j, sign in _copies(z, standardizer) if len(z) > 2 else []:
            if source[j] == j and source[i] == i:
                source[j], signs[j] = i, sign
        if bool((source == torch.arange(d)).all()):
            return None
        scale = standardizer.scale
        slope = signs * scale / scale[source.clamp_min(0)]
        return cls(source.double(), standardizer.centre, slope, _NARROW * scale)

    def are_valid(self) -> bool:
        """Whether dependent dimensions, of which there are some, follow free ones, and constant ones have no slope."""
        free = self.free.double()
        follows = torch.isin(self.source, torch.cat([free, torch.tensor([-1.0])]))
        some = 0 < len(free) < len(self.source)
        return some and bool(follows.all() and (self.narrow > 0).all() and not self.slope[self.source < 0].any())

    @property
    def free(self) -> Tensor:
        """Indices of the free dimensions."""
        return (self.source == torch.arange(len(self.source))).nonzero().flatten()

    def expand(self, z: Tensor) -> Tensor:
        """Free dimensions => all of them, float64."""
        full = self.centre.repeat(len(z), 1)
        full[:, self.free] = z.double()
        dependent, source = self._followers()
        full[:, dependent] += self.slope[dependent] * (full[:, source] - self.centre[source])
        return full

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density of the dependent dimensions, given the free ones: (n, d) float64 => (n,)."""
        dependent = (self.source != torch.arange(len(self.source))).nonzero().flatten()
        narrow = self.narrow[dependent]
        away = (z - self.expand(z[:, self.free]))[:, dependent] / narrow
        constant = narrow.log().sum() + 0.5 * len(dependent) * math.log(2 * math.pi)
        log_prob: Tensor = -0.5 * away.square().sum(dim=1) - constant
        return log_prob

    def notices(self) -> list[str]:
        """Messages for the user; see `notices` for where all dimensions are constant."""
        notices = []
        constant, (followers, source) = (self.source < 0).nonzero().flatten().tolist(), self._followers()
        if constant:
            notices.append(
                f"{_count(len(constant), 'is', 'are')} constant ({_few(constant)}): unused by the encoder, and "
                "the same in samples"
            )
        if len(followers):
            pairs = [f"{j} as {i}" for j, i in zip(followers.tolist(), source.tolist(), strict=True)]
            notices.append(
                f"{_count(len(pairs), 'equals', 'equal')} another one, but for shift and scale ({_few(pairs)}): "
                "the same in samples"
            )
        return notices

    def _followers(self) -> tuple[Tensor, Tensor]:
        """Indices of the dimensions that follow another, and of those that they follow."""
        dims = torch.arange(len(self.source))
        followers = ((self.source >= 0) & (self.source != dims)).nonzero().flatten()
        return followers, self.source[followers].long()


def notices(z: Tensor, dependencies: Dependencies | None) -> list[str]:
    """Messages for the user about the dimensions of latents (N, d), in which these dependencies were found.

    Where all are constant, the first is fitted for form's sake, and it need not have a dependency.
    """
    d = z.shape[1]
    if len(Standardizer.fit(z).constant) < d:
        return dependencies.notices() if dependencies else []
    which = f"all {d} latent dimensions are" if d > 1 else "the only latent dimension is"
    return [f"{which} constant: samples are all the same; look whether the encoder tells items apart"]


def _count(n: int, one: str, many: str) -> str:
    return f"{n} latent dimension{f' {one}' if n == 1 else f's {many}'}"


def _few(values: list[int] | list[str]) -> str:
    return ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")


def _copies(z: Tensor, standardizer: Standardizer) -> list[tuple[int, int, float]]:
    """(i, j, sign), i < j, of dimensions whose standardized values are equal or opposite, up to rounding."""
    n, d = z.shape
    varies = torch.ones(d, dtype=torch.bool)
    varies[standardizer.constant] = False
    products, largest = torch.zeros(d, d, dtype=torch.float64), torch.zeros(d, dtype=torch.float64)
    for part in chunks(z, 4 * d):
        x = ((part.double() - standardizer.centre) / standardizer.scale).float()
        products += x.T @ x
        largest = torch.maximum(largest, part.abs().amax(dim=0).double())
    rounding = _ROUNDINGS * torch.finfo(z.dtype).eps * (1 + largest / standardizer.scale)
    likely = (products.abs() > _CORRELATED * n).triu(1) & varies[:, None] & varies
    copies = []
    for i, j in likely.nonzero().tolist():
        sign = float(products[i, j].sign())
        x, y = ((z[:, k].double() - standardizer.centre[k]) / standardizer.scale[k] for k in (i, j))
        if float((y - sign * x).abs().max()) <= float(rounding[i] + rounding[j]):
            copies.append((i, j, sign))
    return copies
