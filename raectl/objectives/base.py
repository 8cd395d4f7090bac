"""The interface of an objective."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np


class Objective(ABC):
    """A score of strings. That of one string depends on it alone, whatever else is asked for.

    Attributes:
        name: what the registry calls it.
        lower_is_better: the direction.
        worst: what a string that is not valid counts as; None for the worst of the data.
        draws: from how many draws of the decoder the string that stands for a code is taken.

    Raises:
        RaectlError: what it needs is not installed.
    """

    name: ClassVar[str]
    lower_is_better: ClassVar[bool]
    worst: ClassVar[float | None] = None
    draws: ClassVar[int] = 25

    @abstractmethod
    def is_valid(self, text: str) -> bool:
        """Whether a string means something here; an empty one, which is what is not finished, does not."""

    @abstractmethod
    def __call__(self, strings: Sequence[str]) -> np.ndarray:
        """The scores of strings: (N,) => (N,) float64, NaN where one is not valid."""
