"""Features of strings: validity and identity."""

from hashlib import blake2b
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from raectl.errors import RaectlError
from raectl.extractors.base import Extractor

_HALF = 3  # bytes: integers of 24 bits are exact in float32


class Strings(Extractor):
    """Features (valid, identity, identity): 1 and a 48-bit hash as two numbers; zeros for an empty (invalid) string.

    The probability of any collision among a million strings is 0.002.
    """

    name = "strings"
    takes_weights = False
    dim = 3
    set_metrics: ClassVar[tuple[str, ...]] = ("validity",)
    judged_by = "valid"

    def __call__(self, items: np.ndarray) -> Tensor:
        """(B,) text => (B, D) float32."""
        if items.dtype.kind != "U" or items.ndim != 1:
            raise RaectlError(f"{self.name} takes strings, not {items.dtype} of shape {items.shape}")
        return torch.tensor([self._row(text) for text in items.tolist()]).reshape(-1, self.dim)

    def is_valid(self, item: str) -> bool:
        """Whether the feature `valid` of a string is 1."""
        return bool(self(np.array([item], np.str_))[0, 0])

    def _row(self, text: str) -> list[float]:
        if not text:
            return [0.0] * self.dim
        digest = blake2b(text.encode(), digest_size=2 * _HALF).digest()
        return [1.0, *(float(int.from_bytes(half)) for half in (digest[:_HALF], digest[_HALF:]))]
