"""The interface of a reconstruction term, and the check of its options."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from raectl import registry
from raectl.config import reconstruction_text
from raectl.errors import UsageError
from raectl.modalities.base import Modality


class Reconstruction(ABC):
    """A reconstruction term of the loss: how far x_hat is from x. Its options are keyword arguments.

    Arguments:
        modality: of the items; its `reconstructions` name the terms that suit them.

    Attributes:
        options: {option: (default, smallest, largest)}; whole numbers where the default is one.
    """

    options: ClassVar[Mapping[str, tuple[float, float, float]]] = {}

    def __init__(self, modality: Modality) -> None:
        self.modality = modality

    @property
    def constant_from(self) -> int:
        """The step from which on the term no longer changes, so that losses can be compared."""
        return 0

    @abstractmethod
    def __call__(self, x: Tensor, x_hat: Tensor, step: int) -> Tensor:
        """The term of each item, a sum over its values: 2 x (B, *item_shape) => (B,) float32.

        Arguments:
            step: number of the optimizer's steps before this one.
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
    name = given["name"]
    known: Mapping[str, tuple[float, float, float]] = registry.resolve("reconstruction", name).options
    defaults = {"name": name, **{key: default for key, (default, _, _) in known.items()}}
    typed = f"--reconstruction {reconstruction_text(defaults)}"
    for key, value in given.items():
        if key not in defaults:
            hint = f"known: {', '.join(known)}; the defaults: {typed}" if known else f"it has none: {typed}"
            raise UsageError(f"--reconstruction {name} has no option {key!r}", hint)
        if key in known:
            default, low, high = known[key]
            whole = isinstance(default, int)
            if type(value) not in ((int,) if whole else (int, float)):
                message = f"--reconstruction {name}: {key} {value!r} is no {'whole ' if whole else ''}number"
                raise UsageError(message, f"the defaults: {typed}")
            if not low <= value <= high:
                message = f"--reconstruction {name}: {key} {value} is out of range: {low:,} to {high:,}"
                raise UsageError(message, f"the defaults: {typed}")
    return {**defaults, **given}


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
