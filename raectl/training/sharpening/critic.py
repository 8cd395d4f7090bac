"""The critic of the second phase: a small convolutional network that tells real images from decoded ones."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SLOPE = 0.2  # of leaky ReLU
_DOUBLINGS = 3  # layers of width m, 2 m, 4 m; further ones have 4 m
_SMALLEST = 4  # pixels of the last map's shorter side, for images of 32 pixels or more
_SHIFT, _CUT = 1 / 8, 1 / 2  # translation and cutout, shares of an image's side


class Critic(nn.Module):
    """Scores of patches and of whole images, higher for what looks real: (B, C, H, W) in [0, 1] => three heads.

    Convolutions 4 x 4 of stride 2 with leaky ReLU, of widths m, 2 m, 4 m, 4 m, ..., until a map's shorter side has 4
    pixels at most, and three at least. The heads are 1 x 1 convolutions on the second map (patches of 10 pixels) and on
    the third (22 pixels), and a linear layer on the last map. No normalization: a score is a function of one image
    alone.

    Arguments:
        channels: C.
        height, width: H and W, 8 at least.
        filters: m.
    """

    def __init__(self, channels: int, height: int, width: int, filters: int) -> None:
        super().__init__()
        layers = max(_DOUBLINGS, math.ceil(math.log2(min(height, width) / _SMALLEST)))
        widths = [filters * 2 ** min(layer, _DOUBLINGS - 1) for layer in range(layers)]
        self.layers = nn.ModuleList(
            nn.Conv2d(c_in, c_out, 4, stride=2, padding=1)
            for c_in, c_out in zip([channels, *widths], widths, strict=False)
        )
        last = widths[-1] * (height >> layers) * (width >> layers)
        self.heads = nn.ModuleList([nn.Conv2d(widths[1], 1, 1), nn.Conv2d(widths[2], 1, 1), nn.Linear(last, 1)])

    def forward(self, x: Tensor) -> list[Tensor]:
        """The scores of each head, (B, places)."""
        x = 2 * x - 1
        maps = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), _SLOPE)
            maps.append(x)
        inputs = (maps[1], maps[2], x.flatten(1))
        return [head(values).flatten(1) for head, values in zip(self.heads, inputs, strict=True)]


def augmented(images: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
    """Shift images by up to 1/8 of their sides and cut out a rectangle of 1/2 of them: several x (B, C, H, W) => same.

    The rectangle's centre is anywhere in the image, so a part of it may be outside.

    The draw is the same for the i-th image of every batch, so that a pair stays a pair. What is shifted in or cut out
    is 0. Differentiable.

    Reference: Zhao, Liu, Lin, Zhu, Han, "Differentiable Augmentation for Data-Efficient GAN Training", NeurIPS 2020.
    """
    batch, _, height, width = images[0].shape
    device = images[0].device
    kept, index = [], []
    for side in (height, width):
        shift = torch.randint(
            -round(_SHIFT * side), round(_SHIFT * side) + 1, (batch, 1), generator=generator, device=device
        )
        cut = round(_CUT * side)
        start = torch.randint(-(cut // 2), side - cut // 2 + 1, (batch, 1), generator=generator, device=device)
        places = torch.arange(side, device=device)
        index.append(places + shift)
        kept.append((places < start) | (places >= start + cut))
    inside = [(places >= 0) & (places < side) for places, side in zip(index, (height, width), strict=True)]
    mask = (inside[0][:, :, None] & inside[1][:, None, :]) & (kept[0][:, :, None] | kept[1][:, None, :])  # (B, H, W)
    rows, columns = (places.clamp(0, side - 1) for places, side in zip(index, (height, width), strict=True))
    item = torch.arange(batch, device=device)[:, None, None]
    return [
        (x.permute(0, 2, 3, 1)[item, rows[:, :, None], columns[:, None, :]] * mask[..., None]).permute(0, 3, 1, 2)
        for x in images
    ]
