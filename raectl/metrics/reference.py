"""What every measure of samples is taken against: the features of real items, and what is computed of them once."""

from collections.abc import Callable
from copy import copy
from functools import cache
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from raectl.errors import RaectlError

T = TypeVar("T")

# Of every number that is measured: whether a lower one is better.
LOWER_IS_BETTER = {
    "frechet": True,
    "fid": True,
    "kernel": True,
    "precision": False,
    "recall": False,
    "density": False,
    "coverage": False,
    "mse": True,
    "psnr": False,
    "ssim": False,
    "exact-match": False,
    "production-accuracy": False,
    "valid": False,
    "unique": False,
    "novel": False,
    "score": True,
    "score-of-valid": False,
}


NUMBERS = 2**20  # in flight at once where all pairs are looked at: 8 MiB, however many items there are


def rows_at_once(columns: int) -> int:
    """How many items to compare at a time with so many others, that memory is that of the features and of one block."""
    return max(1, NUMBERS // columns)


class Measured(NamedTuple):
    """A measured number and its standard error, None where there is no estimate of it."""

    value: float
    se: float | None = None


class Reference:
    """Features of real items, and a place to keep what is computed of them, for many sets to be measured against.

    A measure is a function `(reference, features) -> {name: Measured}`, registered as one. What it needs of the real
    features alone it asks for with `once`.

    Arguments:
        features: (N, D), N at least 2; float32 or float64, anything else becomes float32.
        training: gives the features of the items that the model was trained on, or None where they are gone.

    Raises:
        RaectlError: fewer than 2 items, or values that are not finite.

    Example:
        >>> reference = Reference(torch.tensor([[0.0, 1.0], [2.0, 5.0]]))
        >>> reference.once(lambda features: features.mean(dim=0))
        tensor([1., 3.])
    """

    def __init__(self, features: Tensor, training: Callable[[], Tensor | None] = lambda: None) -> None:
        self.features = _checked(features, "real")
        self.training: Callable[[], Tensor | None] = cache(training)
        self._known: dict[Callable[[Tensor], Any], Any] = {}

    def alone(self) -> "Reference":
        """The same without the training data, for sets taken from these."""
        other = copy(self)
        other.training = lambda: None
        return other

    def once(self, statistic: Callable[[Tensor], T]) -> T:
        """`statistic(features)`, computed the first time that it is asked for."""
        if statistic not in self._known:
            self._known[statistic] = statistic(self.features)
        found: T = self._known[statistic]
        return found

    def check(self, features: Tensor, least: int = 2, why: str = "a measure of samples") -> Tensor:
        """The features (M, D) of a set to be measured, if it can be.

        Arguments:
            features: as those of the reference.
            least: how many items the measure needs in each set.
            why: the measure, for the error's text.

        Raises:
            RaectlError: another D, values that are not finite, or too few items in either set.
        """
        features = _checked(features, "measured")
        if features.shape[1] != self.features.shape[1]:
            widths = f"{features.shape[1]} features an item, the real ones {self.features.shape[1]}"
            raise RaectlError(f"the measured items have {widths}", "take both from one network")
        for kind, n in (("real", len(self.features)), ("measured", len(features))):
            if n < least:
                raise RaectlError(f"{why} needs at least {least} {kind} items, not {n}")
        return features


def _checked(features: Tensor, kind: str) -> Tensor:
    if features.ndim != 2 or not features.shape[1]:
        raise RaectlError(f"features of {kind} items must have the shape (N, D), not {tuple(features.shape)}")
    if len(features) < 2:
        raise RaectlError(f"a measure of samples needs at least 2 {kind} items, not {len(features)}")
    bad = (~features.isfinite().all(dim=1)).nonzero().flatten().tolist()
    if bad:
        which = f"{len(bad)} of {len(features)} {kind} items, of item {bad[0]} first"
        raise RaectlError(f"features that are not finite, of {which}", f"look at the {kind} items for NaN or infinity")
    features = features.detach().cpu()
    return features if features.dtype in (torch.float32, torch.float64) else features.float()
