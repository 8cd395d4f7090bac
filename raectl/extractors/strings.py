"""Features of strings that hold whatever they mean: whether there is one, and which."""

from hashlib import blake2b
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from raectl.errors import RaectlError, UsageError
from raectl.extractors.base import Extractor

_HALF = 3  # bytes: whole numbers of 24 bits are exact in float32


class Strings(Extractor):
    """Features (valid, identity, identity): 1 and a hash of 48 bits in two numbers, or, of an empty string, zeros.

    Two of a million strings share an identity with a probability of 0.002.
    """

    name = "strings"
    set_metrics: ClassVar[tuple[str, ...]] = ("validity",)

    def __init__(self, weights: Path | None = None, device: torch.device | str = "cpu") -> None:
        super().__init__(weights, device)
        if weights is not None:
            raise UsageError(f"the features {self.name} have no weights", "leave --weights away")

    @property
    def key(self) -> str:
        return f"{self.name}-v1"

    @property
    def dim(self) -> int:
        return 3

    def __call__(self, items: np.ndarray) -> Tensor:
        """(B,) text => (B, D) float32."""
        if items.dtype.kind != "U" or items.ndim != 1:
            raise RaectlError(f"{self.name} takes strings, not {items.dtype} of shape {items.shape}")
        return torch.tensor([self._row(text) for text in items.tolist()]).reshape(-1, self.dim)

    def is_valid(self, item: str) -> bool:
        """Whether there is a string, and it means something."""
        return bool(self(np.array([item], np.str_))[0, 0])

    def _row(self, text: str) -> list[float]:
        if not text:
            return [0.0] * self.dim
        digest = blake2b(text.encode(), digest_size=2 * _HALF).digest()
        return [1.0, *(float(int.from_bytes(half)) for half in (digest[:_HALF], digest[_HALF:]))]
