"""Base class of optimizers: steps, the learning rate, and a state of named arrays that resuming starts from."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping

import numpy as np
from torch import nn

from raectl.storage.arrays import Arrays, Spec


class Optimizer(ABC):
    """Updates a module's parameters from their gradients.

    Arguments:
        module: the module.
        lr: the learning rate.
    """

    @abstractmethod
    def __init__(self, module: nn.Module, lr: float) -> None: ...

    @abstractmethod
    def step(self) -> None:
        """Update the parameters that have a gradient."""

    @abstractmethod
    def set_rate(self, lr: float) -> None:
        """Set the learning rate of the next steps."""

    @abstractmethod
    def to_arrays(self) -> Arrays:
        """A copy of the state."""

    @abstractmethod
    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Set the state to a copy of the arrays of `to_arrays`, bit for bit."""

    @staticmethod
    @abstractmethod
    def layout_of(module: nn.Module, names: Collection[str]) -> dict[str, Spec]:
        """Shape and type of each of `to_arrays`, given the names that are there: before the first step some are not."""
