"""Base class of extractors for images."""

from abc import abstractmethod
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from raectl.config import MOST_CHANNELS
from raectl.device import padded_blocks
from raectl.errors import RaectlError
from raectl.extractors.base import Extractor

# Types and numbers of channels of images.
_SHOWN = ((np.uint8,), (1, 3), "uint8 of shape (N, H, W, 1 or 3)")
_STORED = ((np.uint8, np.uint16), range(1, MOST_CHANNELS + 1), "uint8 or uint16 of shape (N, H, W, C)")


class ImageExtractor(Extractor):
    """Features of images, computed in blocks of `block` items, so that row i is a function of item i bit for bit."""

    set_metrics: ClassVar[tuple[str, ...]] = ("frechet", "kernel", "prdc")
    judged_by = "kernel"
    block: ClassVar[int] = 32

    @abstractmethod
    def _features(self, x: Tensor) -> Tensor:
        """(block, C, H, W) float32 in [0, 255], on the CPU => (block, D), on any device."""

    def __call__(self, items: np.ndarray) -> Tensor:
        """Images (B, H, W, C) uint8, possibly memory-mapped, C = 1 (grey) or 3 => (B, D) float32, on the CPU.

        As stored, they may be uint16, and have any number of channels.
        """
        types, depths, form = _STORED if self.sees_stored else _SHOWN
        if items.dtype not in types or items.ndim != 4 or items.shape[3] not in depths or 0 in items.shape[1:]:
            found = f"{items.dtype} of shape {items.shape}"
            raise RaectlError(f"{self.name} takes images, {form}, not {found}")
        parts = [torch.empty(0, self.dim or 0)] if len(items) == 0 else []
        with torch.inference_mode():
            for rows, count in padded_blocks(items, self.block):
                x = torch.from_numpy(rows).permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
                if rows.dtype == np.uint16:
                    x /= 257  # to bytes, and parts of them
                parts.append(self._features(x)[:count].float().cpu())
        return torch.cat(parts)
