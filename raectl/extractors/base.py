"""The interface of an extractor."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor


class Extractor(ABC):
    """Features of items, as a modality shows them. Row i depends on item i alone, whatever else is in the batch.

    Arguments:
        weights: file of the network's weights; None for those that come with the extractor, where some do.
        device: where the features are computed.

    Attributes:
        name: what the registry calls it.
        set_metrics: registry names of the measures that these features are for.
        frechet_name: what the Fréchet distance between its features is called; FID is the name for Inception's only.
        notes: sentences to tell the user.

    Raises:
        UsageError: weights are missing, or given to an extractor that has none.
        RaectlError: the weights cannot be read, or are those of another network.
    """

    name: ClassVar[str]
    set_metrics: ClassVar[tuple[str, ...]]
    frechet_name: ClassVar[str] = "frechet"
    notes: tuple[str, ...] = ()

    def __init__(self, weights: Path | None = None, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)

    @property
    @abstractmethod
    def key(self) -> str:
        """Identity of the features: the name, the preprocessing, and the digest of the weights. Other features, other
        key."""

    @property
    @abstractmethod
    def dim(self) -> int | None:
        """D, or None where it depends on the items' shape."""

    @abstractmethod
    def __call__(self, items: np.ndarray) -> Tensor:
        """The features of some items.

        Arguments:
            items: (B, ...), as `Modality.shown` gives them.

        Returns:
            (B, D) float32, on the CPU.

        Raises:
            RaectlError: the items are of another kind.
        """
