"""The interface of a feature extractor."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from raectl.errors import UsageError


class Extractor(ABC):
    """Maps items to features. Row i is a function of item i alone, independent of the rest of the batch.

    `weights` is a file of the network's weights; None for those that come with the extractor, if any.

    Raises:
        UsageError: weights are missing, or given to an extractor that has none.
        RaectlError: a package is missing, or the weights cannot be read or belong to another network.
    """

    name: ClassVar[str]  # registry name
    dim: ClassVar[int | None]  # D, or None if it depends on the items' shape
    takes_weights: ClassVar[bool] = True  # whether `weights` may be given
    sees_stored: ClassVar[bool] = False  # whether it takes items as stored, and not as `Modality.shown` gives them
    set_metrics: ClassVar[tuple[str, ...]]  # registry names of the set metrics to compute from these features
    judged_by: ClassVar[str]  # the value of these set metrics that `evaluate` summarizes a model by
    # Name of the Fréchet distance between these features; `fid` for Inception's only.
    frechet_name: ClassVar[str] = "frechet"
    notes: tuple[str, ...] = ()  # messages for the user

    def __init__(self, weights: Path | None = None, device: torch.device | str = "cpu") -> None:
        if weights is not None and not self.takes_weights:
            raise UsageError(f"the features {self.name} have no weights", "omit --weights")
        self.device = torch.device(device)

    @property
    def key(self) -> str:
        """Identifies the features: name, preprocessing and digest of the weights."""
        return f"{self.name}-v1"

    @abstractmethod
    def __call__(self, items: np.ndarray) -> Tensor:
        """Items (B, ...), as `Modality.shown` gives them or as stored => features (B, D) float32, on the CPU.

        Raises:
            RaectlError: the items are of another type or shape.
        """
