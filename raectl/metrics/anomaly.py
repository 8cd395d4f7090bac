"""Anomaly scores of items: reconstruction error and log-density, calibrated on typical items that are not new.

"Typical" items are of the data's distribution, and the model was not trained on them: those held out of training.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from scipy.special import ndtri

from raectl.errors import RaectlError, UsageError

_FLOOR = 1e-5  # share of the mean energy that is added to an item's own, about that of rounding to bytes
_MAD = 1.4826  # a normal distribution's standard deviation over its median absolute deviation
_LEAST = 1e-12  # of an error, before the logarithm
_LARGEST = 1e150  # so that nothing is infinite, which JSON has not
_ROUNDING = 1e-9
_FEWEST = 2  # typical items


@dataclass(frozen=True)
class Measures:
    """What scores are made of, for N items, float64.

    Arguments:
        deviation: how far the reconstruction is, (N,), in the modality's units.
        energy: what that is compared with, (N,), in the same units.
        log_density: of the code, (N,), in nats.
    """

    deviation: np.ndarray
    energy: np.ndarray
    log_density: np.ndarray

    def __post_init__(self) -> None:
        for name, values in vars(self).items():
            worst = -_LARGEST if name == "log_density" else _LARGEST
            object.__setattr__(self, name, np.nan_to_num(values, nan=worst, posinf=_LARGEST, neginf=-_LARGEST))

    @staticmethod
    def are_valid(arrays: Mapping[str, np.ndarray]) -> bool:
        """Whether arrays from a file can be measures: numbers of one item after the other."""
        n = len(arrays["energy"])
        is_right = n > 0 and all(array.shape == (n,) and array.dtype == np.float64 for array in arrays.values())
        return is_right and all(np.isfinite(a).all() for a in arrays.values()) and bool((arrays["energy"] >= 0).all())

    @classmethod
    def joined(cls, parts: "list[Measures]") -> "Measures":
        """All rows."""
        names = [field.name for field in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts] or [np.empty(0)]) for name in names))


@dataclass(frozen=True)
class Scores:
    """Scores of N items; the higher the odder.

    Arguments:
        error: reconstruction error over the item's own energy, (N,).
        log_density: of the code, (N,), in nats.
        score: both together, see `Calibration`, (N,).
        percentile: 100 x share of typical items that score lower, equal ones half, (N,).
        p_value: share of typical items, and itself, that score at least as high, (N,).
    """

    error: np.ndarray
    log_density: np.ndarray
    score: np.ndarray
    percentile: np.ndarray
    p_value: np.ndarray

    def __len__(self) -> int:
        return len(self.score)

    def odd(self, flag: float) -> np.ndarray:
        """Which are among the oddest `flag`, a share: of typical items at most so many are, on average; (N,) bool."""
        return self.p_value <= flag + _ROUNDING


class NormalScores:
    """Values by what typical ones are: a typical value becomes standard normal.

        q(x) = Phi^-1(rank / (n + 1)), linear between typical values; beyond them it goes on with a slope of 1 / d

    with d 1.4826 times the median absolute deviation. Equal values have the mean of their scores.

    Arguments:
        typical: n values, (n,).

    References: van der Waerden, "Order Tests for the Two-Sample Problem and Their Power", 1952.

    Example:
        >>> NormalScores(np.array([1.0, 2, 4]))(np.array([1.0, 2, 3, 4])).round(3).tolist()
        [-0.674, 0.0, 0.337, 0.674]
    """

    def __init__(self, typical: np.ndarray) -> None:
        n = len(typical)
        self._values, ranks, counts = np.unique(typical, return_inverse=True, return_counts=True)
        scores = ndtri(np.arange(1, n + 1) / (n + 1))
        self._scores = np.bincount(np.sort(ranks), scores) / counts
        self._scale = _robust_deviation(typical)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """(N,) => (N,)."""
        first, last = self._values[[0, -1]]
        beyond = np.clip(values - last, 0, None) + np.clip(values - first, None, 0)
        return np.asarray(np.interp(values, self._values, self._scores) + beyond / self._scale)


class Calibration:
    """Scores by what typical items have.

        error    e = deviation / (energy + 1e-5 mean energy)
        score    s = sqrt(max(a, 0)^2 + max(b, 0)^2), or max(a, b) if neither is above 0
                 a = q(log e),   b = q(-log p(z))

    with q the normal scores by the typical items, so that neither part outweighs the other, whatever its unit and its
    distribution is. For standard normal a and b, s^2 is the likelihood ratio statistic against means that are shifted
    upwards in either or both: a page of text among photographs is badly reconstructed, and its code is in the middle of
    the others'; a sum of a and b would let the one make up for the other.

    The percentile of a score is 100 x the share of typical items that score lower, equal ones half. Its p-value is

        p = (1 + number of typical items that score at least as high) / (n + 1)

    For an item of the typical ones' distribution it is at most u with a probability of at most u (conformal
    prediction), up to what q owes to the same n items, which is little from n = 100 on.

    Arguments:
        typical: measures of n typical items.
        errors: measures by whose errors those are calibrated; None for the typical items'.

    Raises:
        RaectlError: they are fewer than two.

    References: Kudô, "A Multivariate Analogue of the One-Sided Test", Biometrika 50, 1963; Laxhammar, Falkman,
    "Conformal Prediction for Distribution-Independent Anomaly Detection in Streaming Vessel Data", 2010.

    Example:
        >>> even = np.linspace(1, 2, 9)
        >>> calibration = Calibration(Measures(even, np.ones(9), -even))
        >>> calibration.scores(Measures(np.array([1.5, 9]), np.ones(2), np.array([-1.5, -1.5]))).percentile.tolist()
        [50.0, 100.0]
    """

    def __init__(self, typical: Measures, errors: Measures | None = None) -> None:
        self.n, errors = len(typical.deviation), errors or typical
        if self.n < _FEWEST:
            raise RaectlError(
                f"{self.n} typical item{'s are' if self.n != 1 else ' is'} too few to calibrate scores by",
                "name more that the model has not seen: --reference SOURCE",
            )
        self._floor = _FLOOR * float(errors.energy.mean())
        self._of_error = NormalScores(self._log_error(errors))
        self._of_density = NormalScores(-typical.log_density)
        self.typical = np.sort(self._score(typical))

    def scores(self, of: Measures) -> Scores:
        """The scores of some items."""
        score = self._score(of)
        lower, percentile = ranked(self.typical, score)
        p_value = (1 + self.n - lower) / (self.n + 1)
        return Scores(np.exp(self._log_error(of)), of.log_density, score, percentile, p_value)

    def _log_error(self, of: Measures) -> np.ndarray:
        return np.log(np.maximum(of.deviation / np.maximum(of.energy + self._floor, _LEAST), _LEAST))

    def _score(self, of: Measures) -> np.ndarray:
        a, b = self._of_error(self._log_error(of)), self._of_density(-of.log_density)
        larger: np.ndarray = np.maximum(a, b)
        return np.where(larger > 0, np.hypot(np.maximum(a, 0), np.maximum(b, 0)), larger)


def ranked(ordered: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each score, the number of lower ones among ordered scores, and its percentile among them, equal ones half."""
    lower, not_higher = (np.searchsorted(ordered, score, side) for side in ("left", "right"))
    return lower, 50 * (lower + not_higher) / len(ordered)


def check_flag(flag: float, n: int) -> float:
    """Return a share of typical items to flag if n of them tell it, else raise a `UsageError`."""
    if not 0 < flag < 1:
        raise UsageError(f"--flag {flag:g} is out of range: a share between 0 and 1", "--flag 1%")
    if flag * n < 1 - _ROUNDING:
        message = f"--flag {100 * flag:g}% is finer than {n:,} held-out items tell apart"
        raise UsageError(
            message, f"--flag {math.ceil(1000 / n) / 10:g}%; or {math.ceil(1 / flag):,} items: --reference"
        )
    return flag


def _robust_deviation(values: np.ndarray) -> float:
    """1.4826 times the median absolute deviation; where most values are equal, the standard deviation, or 1."""
    with np.errstate(over="ignore"):
        spread = _MAD * float(np.median(np.abs(values - np.median(values)))) or float(np.std(values))
    return spread if math.isfinite(spread) and spread > 0 else 1.0
