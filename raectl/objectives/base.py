"""The interface of an objective."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np


class Objective(ABC):
    """A score of strings; the score of a string does not depend on the others.

    Raises:
        RaectlError: a package that it needs is not installed.
    """

    name: ClassVar[str]  # in the registry
    lower_is_better: ClassVar[bool]
    worst: ClassVar[float | None] = None  # score that stands for an invalid string; None for the worst of the data
    draws: ClassVar[int] = 25  # strings drawn from the decoder for a latent code, of which the most frequent is scored

    @abstractmethod
    def is_valid(self, text: str) -> bool:
        """Whether a string has a score. The empty string, which stands for an unfinished derivation, has none."""

    @abstractmethod
    def __call__(self, strings: Sequence[str]) -> np.ndarray:
        """The scores of strings: (N,) => (N,) float64, NaN for an invalid one."""
