"""The features of real items, which set metrics compare other items with."""

from collections.abc import Callable
from copy import copy
from functools import cache
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from raectl.errors import RaectlError

T = TypeVar("T")

# Every metric's value: whether a lower one is better.
LOWER_IS_BETTER = {
    **dict.fromkeys(("frechet", "fid", "kernel", "mse", "score"), True),
    **dict.fromkeys(("precision", "recall", "density", "coverage", "psnr", "ssim", "auroc", "auprc", "f1"), False),
    **dict.fromkeys(("exact-match", "production-accuracy", "valid", "unique", "novel", "score-of-valid"), False),
}
# Of the others, the value that is right; both lower and higher ones are worse.
TARGETS = {"sharpness": 1.0, "copied": 0.5}

_SHARES = ("precision", "recall", "coverage", "copied", "exact-match", "production-accuracy", "auroc", "auprc", "f1")
_UNITS = {
    **dict.fromkeys(("frechet", "fid"), "squared units of the features"),
    **{"kernel": "squared MMD", "psnr": "dB", "mse": "squared, of values in [0, 1]", "ssim": "correlation, -1 to 1"},
    **dict.fromkeys((*_SHARES, "valid", "unique", "novel"), "share, 0 to 1"),
    **{"density": "ratio", "sharpness": "ratio", "score": "the objective's", "score-of-valid": "the objective's"},
}

NUMBERS = 2**20  # in a block of pairwise distances or kernel values: 8 MiB of float64


def rows_at_once(columns: int) -> int:
    """How many rows of a matrix with so many columns to compute at once: about 2^20 numbers."""
    return max(1, NUMBERS // columns)


def direction_and_unit(metric: str) -> dict[str, str | float | None]:
    """The fields of a record that say how to read its value: `lower` or `higher` is better, or the value that is right.

    Both are None for a metric that is not in the tables above.

    Example:
        >>> direction_and_unit("kernel")
        {'direction': 'lower', 'unit': 'squared MMD'}
        >>> direction_and_unit("copied")
        {'direction': 0.5, 'unit': 'share, 0 to 1'}
    """
    better = {True: "lower", False: "higher", None: None}[LOWER_IS_BETTER.get(metric)]
    return {"direction": TARGETS.get(metric, better), "unit": _UNITS.get(metric)}


def badness(metric: str, value: float) -> float:
    """A number that is the lower the better, in the metric's units.

    Example:
        >>> badness("kernel", 0.2), badness("recall", 0.2), badness("sharpness", 0.75)
        (0.2, -0.2, 0.25)
    """
    if metric in TARGETS:
        return abs(value - TARGETS[metric])
    return value if LOWER_IS_BETTER[metric] else -value


class Measured(NamedTuple):
    """The value of a metric and its standard error, None if there is no estimate of it."""

    value: float
    se: float | None = None


class Reference:
    """Features of real items, with a cache of statistics of them.

    A set metric is a registered function `(reference, features) -> {name: Measured}`, where `features`, (M, D), are
    those of the set. It raises a `RaectlError` for a set of fewer than 2 items, or what more it needs, another D, or
    values that are not finite. Statistics of the real features alone are cached by `once`.

    Arguments:
        features: (N, D), N at least 2; float32 or float64, others are converted to float32.
        training: returns the features of the training items, or None if these are not available.
        training_sample: the same of as many of the items trained on as there are real ones, or of all if they are
            fewer; chosen at random. None, too, where the real items are the training items.

    Raises:
        RaectlError: fewer than 2 items, or values that are not finite.

    Example:
        >>> reference = Reference(torch.tensor([[0.0, 1.0], [2.0, 5.0]]))
        >>> reference.once(lambda features: features.mean(dim=0))
        tensor([1., 3.])
    """

    def __init__(
        self,
        features: Tensor,
        training: Callable[[], Tensor | None] = lambda: None,
        training_sample: Callable[[], Tensor | None] = lambda: None,
    ) -> None:
        self.features = _checked(features, "real")
        self.training: Callable[[], Tensor | None] = cache(training)
        self.training_sample: Callable[[], Tensor | None] = cache(training_sample)
        self._cache: dict[Callable[[Tensor], Any], Any] = {}

    def alone(self) -> "Reference":
        """The same without the training data, for sets that are part of the training data."""
        other = self.of_originals()
        other.training = lambda: None
        return other

    def of_originals(self) -> "Reference":
        """The same without the training sample, for sets made from the real items, to which they are nearest."""
        other = copy(self)
        other.training_sample = lambda: None
        return other

    def once(self, statistic: Callable[[Tensor], T]) -> T:
        """`statistic(features)`, computed once."""
        if statistic not in self._cache:
            self._cache[statistic] = statistic(self.features)
        result: T = self._cache[statistic]
        return result

    def check(self, features: Tensor, least: int = 2, why: str = "a set metric") -> Tensor:
        """Check and return the features (M, D) of a set to be compared with the real items.

        Raises:
            RaectlError: another D, values that are not finite, or fewer than `least` items in either set; the message
                says `why` so many are needed.
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
        raise RaectlError(f"a set metric needs at least 2 {kind} items, not {len(features)}")
    bad = (~features.isfinite().all(dim=1)).nonzero().flatten().tolist()
    if bad:
        which = f"{len(bad)} of {len(features)} {kind} items, of item {bad[0]} first"
        raise RaectlError(f"features that are not finite, of {which}", f"look at the {kind} items for NaN or infinity")
    features = features.detach().cpu()
    return features if features.dtype in (torch.float32, torch.float64) else features.float()
