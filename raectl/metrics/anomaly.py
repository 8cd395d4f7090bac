"""Anomaly scores of items: reconstruction error and log-density, calibrated on typical items that are not new.

"Typical" items are of the data's distribution, and the model was not trained on them: those held out of training.
"""

import math
from dataclasses import dataclass, fields

import numpy as np

from raectl.errors import RaectlError, UsageError

_FLOOR = 0.01  # share of the mean energy that is added to an item's own: that of a constant image is 0
_MAD = 1.4826  # a normal distribution's standard deviation over its median absolute deviation
_LEAST = 1e-12  # of an error, before the logarithm
_LARGEST = 1e300  # so that nothing is infinite, which JSON has not
_ROUNDING = 1e-9
_MOST_OPPOSED = -0.9  # correlation below which the score's scale is no longer corrected


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
            finite = np.nan_to_num(values, nan=-_LARGEST, posinf=_LARGEST, neginf=-_LARGEST)
            object.__setattr__(self, name, finite)

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
        return self.p_value <= flag


class Calibration:
    """Scores by what typical items have.

        error    e = deviation / (energy + 0.01 mean energy)
        score    s = (a + b) / sqrt(2 (1 + r)),   a = (log e - m_e) / d_e,   b = (m_p - log p(z)) / d_p

    with m and d the median and 1.4826 times the median absolute deviation of log e and of log p(z) over typical items,
    and r the rank correlation of a and b there. Both terms are robust z-scores, so that neither outweighs the other,
    whatever its unit is. Their sum is Stouffer's combination of two tests, its scale corrected for their correlation: a
    typical item's score is about standard normal. Were a and b normal, and the means of odd items' shifted by as much
    in both, the sum would be the most powerful test (Neyman, Pearson).

    The percentile of a score is 100 x the share of typical items that score lower, equal ones half. Its p-value is

        p = (1 + number of typical items that score at least as high) / (n + 1)

    which for an item of the typical ones' distribution is at most u with a probability of at most u, whatever the
    distribution is (conformal prediction).

    Arguments:
        typical: measures of n typical items.

    Raises:
        RaectlError: there are none.

    References: Stouffer et al., "The American Soldier", 1949; Iglewicz, Hoaglin, "How to Detect and Handle Outliers",
    1993 (robust z-scores); Laxhammar, Falkman, "Conformal Prediction for Distribution-Independent Anomaly Detection in
    Streaming Vessel Data", 2010.

    Example:
        >>> even = np.linspace(1, 2, 9)
        >>> calibration = Calibration(Measures(even, np.ones(9), np.zeros(9)))
        >>> calibration.scores(Measures(np.array([1.5, 9]), np.ones(2), np.zeros(2))).percentile.tolist()
        [50.0, 100.0]
    """

    def __init__(self, typical: Measures) -> None:
        self.n = len(typical.deviation)
        columns = vars(typical).values()
        if not self.n or any(c.shape != (self.n,) or c.dtype != float or not np.isfinite(c).all() for c in columns):
            raise RaectlError("there are no measures of typical items to calibrate scores by")
        self._floor = _FLOOR * float(typical.energy.mean())
        error = self._log_error(typical)
        self._of_error, self._of_density = _centre_and_scale(error), _centre_and_scale(-typical.log_density)
        both = [_ranks(self._standardized(values, of)) for values, of in self._terms(typical)]
        a, b = (ranks - ranks.mean() for ranks in both)
        spread = math.sqrt(float(a @ a) * float(b @ b))
        r = float(a @ b) / spread if spread and self.n > 2 else 0.0
        self._scale = math.sqrt(2 * (1 + max(r, _MOST_OPPOSED)))
        self.typical = np.sort(self._score(typical))

    def scores(self, of: Measures) -> Scores:
        """The scores of some items."""
        score = self._score(of)
        lower = np.searchsorted(self.typical, score, side="left")
        not_higher = np.searchsorted(self.typical, score, side="right")
        return Scores(
            np.exp(self._log_error(of)),
            of.log_density,
            score,
            50 * (lower + not_higher) / self.n,
            (1 + self.n - lower) / (self.n + 1),
        )

    def _log_error(self, of: Measures) -> np.ndarray:
        return np.log(np.maximum(of.deviation / np.maximum(of.energy + self._floor, _LEAST), _LEAST))

    def _terms(self, of: Measures) -> tuple[tuple[np.ndarray, tuple[float, float]], ...]:
        return (self._log_error(of), self._of_error), (-of.log_density, self._of_density)

    @staticmethod
    def _standardized(values: np.ndarray, centre_and_scale: tuple[float, float]) -> np.ndarray:
        centre, scale = centre_and_scale
        return np.clip((values - centre) / scale, -_LARGEST, _LARGEST)

    def _score(self, of: Measures) -> np.ndarray:
        total = sum(self._standardized(values, how) / self._scale for values, how in self._terms(of))
        return np.asarray(total)


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


def _centre_and_scale(values: np.ndarray) -> tuple[float, float]:
    """The median, and a robust standard deviation; where most values are equal, that of all, and where all are, 1."""
    centre = float(np.median(values))
    scale = _MAD * float(np.median(np.abs(values - centre))) or float(np.std(values))
    return centre, scale if math.isfinite(scale) and scale > 0 else 1.0


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0, means for equal values."""
    ordered = np.sort(values)
    return (np.searchsorted(ordered, values, side="left") + np.searchsorted(ordered, values, side="right") - 1) / 2
