"""The losses of the second phase, as functions of a critic's scores.

    L_C = mean softplus(C(fake) - C(real)) + gamma / 2 (R(real) + R(fake))
    g   = d/dx_hat sum softplus(C(real) - C(fake)),   the decoder's gradient at its images

Every fake image is paired with a real one, and scores are compared at the same place of the same head: means over
places, then over heads, then over pairs. R is the squared norm of the critic's gradient, without second derivatives.

References: Jolicoeur-Martineau, "The relativistic discriminator", ICLR 2019; Huang, Gokaslan, Kuleshov, Tompkin, "The
GAN is dead; long live the GAN! A Modern GAN Baseline", NeurIPS 2024 (pairs with both gradient penalties).
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Scores = Sequence[Tensor]  # of each head: (B, places)
DIFFERENCE = 0.02  # e, in units of images in [-1, 1]


def mean(scores: Scores) -> Tensor:
    """The mean over places, then over heads: (B,)."""
    return torch.stack([head.mean(dim=1) for head in scores]).mean(dim=0)


def pairing(ahead: Scores, behind: Scores) -> Tensor:
    """softplus(behind - ahead), small if `ahead` scores higher: (B,).

    Example:
        >>> float(pairing([torch.tensor([[0.0]])], [torch.tensor([[0.0]])]))  # log 2
        0.6931471824645996
    """
    return mean([F.softplus(low - high) for high, low in zip(ahead, behind, strict=True)])


def squared_gradient(
    critic: Callable[[Tensor], Scores], x: Tensor, scores: Scores, generator: torch.Generator
) -> Tensor:
    """An estimate of the squared norm of the critic's gradient at each image: (B, C, H, W) => (B,).

        R(x) = ((C(x + e n) - C(x)) / e)^2,   n ~ N(0, I), e = 0.02

    whose mean over n tends to |grad C(x)|^2 as e -> 0. The gradient is by images in [-1, 1], the critic's own units.
    Always in float32: in bfloat16 the difference would be rounding.

    Arguments:
        x: images in [0, 1].
        scores: the critic's, of `x`.
    """
    with torch.autocast(x.device.type, enabled=False):
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        moved = critic(x + DIFFERENCE / 2 * noise)
        return mean([((near - at) / DIFFERENCE).square() for near, at in zip(moved, scores, strict=True)])
