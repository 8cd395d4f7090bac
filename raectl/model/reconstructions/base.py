"""The interface of a reconstruction term, and the check of its options."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from raectl import registry
from raectl.config import Component
from raectl.errors import UsageError
from raectl.modalities.base import Modality


class Reconstruction(Component, ABC):
    """A reconstruction term of the loss: how far x_hat is from x. The modality names those that suit its items."""

    def __init__(self, modality: Modality, **given: Any) -> None:
        super().__init__(**given)
        self.modality = modality

    @property
    def constant_from(self) -> int:
        """The step from which on the term no longer changes, so that losses can be compared."""
        return 0

    @abstractmethod
    def __call__(self, x: Tensor, x_hat: Tensor, step: int) -> Tensor:
        """The term of each item, a sum over its values: 2 x (B, *item_shape) => (B,) float32.

        `step` is the number of the optimizer's steps before this one.
        """


def sum_values(values: Tensor) -> Tensor:
    """The sum over an item's values: (B, *item_shape) => (B,)."""
    return values.sum(dim=tuple(range(1, values.dim())))


def fill_in(given: Mapping[str, Any]) -> dict[str, Any]:
    """A term's name and options, in the form of `Config.reconstruction`, with the defaults of those that are missing.

    Raises:
        UsageError: the term has no such option, or its value is out of range.

    Example:
        >>> fill_in({"name": "l1", "start": 0})
        {'name': 'l1', 'start': 0, 'length': 500}
    """
    options = {key: value for key, value in given.items() if key != "name"}
    kind: type[Reconstruction] = registry.resolve("reconstruction", given["name"])
    return {"name": given["name"], **kind.checked(options, f"--reconstruction {given['name']}")}


def for_modality(given: Mapping[str, Any] | None, modality: Modality) -> dict[str, Any]:
    """`fill_in`, for items of a modality; its default term if none is given.

    Raises:
        UsageError: the term is not for such items, or as `fill_in`.
    """
    filled = fill_in(given or {"name": modality.reconstructions[0]})
    if filled["name"] not in modality.reconstructions:
        kind = type(modality).__name__.lower()
        known = ", ".join(modality.reconstructions)
        raise UsageError(f"--reconstruction {filled['name']} is not for {kind}", f"known for {kind}: {known}")
    return filled
