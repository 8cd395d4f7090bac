"""Augmentation: each training image changed at random, a little and plausibly; (B, C, H, W) in [0, 1] => the same.

Only the steps of training see such images. Validation, latents and measurements do not, and densities are fitted to the
codes of images as they are, so that samples are not flipped or tinted because the training was.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from raectl.registry import resolve

_SHIFT = 1 / 8  # of the side, either way, at most
_TURN = math.radians(10)  # either way, at most
_CONTRAST, _BRIGHTNESS, _SATURATION = 1.25, 0.1, 1.5  # factor, addend, factor, at most

Augmentation = Callable[[Tensor, torch.Generator], Tensor]


def augmented(x: Tensor, names: str, generator: torch.Generator) -> Tensor:
    """Images after the augmentations of a list such as `flip,shift`, in its order."""
    for name in names.split(","):
        augmentation: Augmentation = resolve("augmentation", name)
        x = augmentation(x, generator)
    return x


def flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """Every second image, at random, with left and right exchanged."""
    chosen = torch.rand((len(x), 1, 1, 1), generator=generator, device=x.device) < 0.5
    return torch.where(chosen, x.flip(3), x)


def shift(x: Tensor, generator: torch.Generator) -> Tensor:
    """Moved by whole pixels, up to an eighth of the side; the border's pixels fill what becomes free."""
    index = []
    for axis, side in enumerate(x.shape[2:]):
        most = int(_SHIFT * side)
        offsets = torch.randint(-most, most + 1, (len(x), 1), generator=generator, device=x.device)
        places = (torch.arange(side, device=x.device) + offsets).clamp(0, side - 1)
        index.append(places[:, :, None] if axis == 0 else places[:, None, :])
    items = torch.arange(len(x), device=x.device)[:, None, None]
    return x.permute(0, 2, 3, 1)[items, index[0], index[1]].permute(0, 3, 1, 2)


def turn(x: Tensor, generator: torch.Generator) -> Tensor:
    """Rotated about the middle, up to 10 degrees either way; the border's pixels fill what becomes free."""
    angles = _uniform(x, generator, -_TURN, _TURN).flatten()
    sine, cosine, zero, aspect = angles.sin(), angles.cos(), torch.zeros_like(angles), x.shape[2] / x.shape[3]
    turns = torch.stack([cosine, -sine * aspect, zero, sine / aspect, cosine, zero], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(turns, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def recolour(x: Tensor, generator: torch.Generator) -> Tensor:
    """Contrast times or divided by up to 1.25, brightness up or down by 0.1; saturation by up to 1.5 of 3 channels."""
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    contrast = _uniform(x, generator, -math.log(_CONTRAST), math.log(_CONTRAST)).exp()
    changed = mean + contrast * (x - mean) + _uniform(x, generator, -_BRIGHTNESS, _BRIGHTNESS)
    if x.shape[1] == 3:
        grey = changed.mean(dim=1, keepdim=True)
        saturation = _uniform(x, generator, -math.log(_SATURATION), math.log(_SATURATION)).exp()
        changed = grey + saturation * (changed - grey)
    return changed.clamp(0, 1)


def _uniform(x: Tensor, generator: torch.Generator, low: float, high: float) -> Tensor:
    """A number for each image, (B, 1, 1, 1)."""
    return low + (high - low) * torch.rand((len(x), 1, 1, 1), generator=generator, device=x.device, dtype=x.dtype)
