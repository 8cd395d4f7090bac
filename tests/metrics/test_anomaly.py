"""Anomaly scores against SciPy, their percentiles against what the theory says of new typical items."""

import numpy as np
import pytest
from scipy import stats
from scipy.interpolate import interp1d
from scipy.optimize import minimize

from raectl.errors import RaectlError, UsageError
from raectl.metrics.anomaly import Calibration, Measures, NormalScores, check_flag


def measures(n: int, seed: int = 0, shift: float = 0.0) -> Measures:
    rng = np.random.default_rng(seed)
    common = rng.normal(size=n)
    deviation = np.exp(rng.normal(size=n) + common + shift)
    return Measures(deviation, rng.uniform(1, 2, n), -(rng.standard_t(5, size=n) + common + shift))


def test_the_score_is_the_formula() -> None:
    typical, others = measures(400), measures(50, seed=1)
    scores = Calibration(typical).scores(others)
    floor = 1e-5 * typical.energy.mean()
    np.testing.assert_allclose(scores.error, others.deviation / (others.energy + floor))
    z = []
    of_typical = (np.log(typical.deviation / (typical.energy + floor)), -typical.log_density)
    for of, values in zip(of_typical, (np.log(scores.error), -others.log_density), strict=True):
        normal = stats.norm.ppf(stats.rankdata(of) / (len(of) + 1))
        inside = interp1d(np.sort(of), np.sort(normal), bounds_error=False)(values)
        d = stats.median_abs_deviation(of) * 1.4826
        above, below = normal.max() + (values - of.max()) / d, normal.min() + (values - of.min()) / d
        z.append(np.where(values > of.max(), above, np.where(values < of.min(), below, inside)))
    for a, b, score in zip(*z, scores.score, strict=True):
        # The likelihood ratio of the best means that are not below 0, against 0, for unit normals: 2 log of it is s^2.
        best = minimize(lambda m, a=a, b=b: (a - m[0]) ** 2 + (b - m[1]) ** 2, [1.0, 1.0], bounds=[(0, None)] * 2)
        assert max(score, 0) ** 2 == pytest.approx(a**2 + b**2 - best.fun, abs=1e-5)
        assert score > 0 or score == max(a, b)


def test_percentiles_and_p_values_count_typical_items() -> None:
    calibration = Calibration(measures(99))
    scores = calibration.scores(measures(30, seed=1, shift=1.0))
    for score, percentile, p in zip(scores.score, scores.percentile, scores.p_value, strict=True):
        assert percentile == pytest.approx(100 * (calibration.typical < score).mean())
        assert p == pytest.approx((1 + (calibration.typical >= score).sum()) / 100)


def test_equal_scores_count_half() -> None:
    few = Measures(np.array([1.0, 1, 2, 2]), np.ones(4), np.zeros(4))
    scores = Calibration(few).scores(few)
    assert scores.percentile.tolist() == [25, 25, 75, 75]
    assert scores.p_value.tolist() == [1, 1, 0.6, 0.6]


def test_of_new_typical_items_no_more_than_the_flag_are_odd() -> None:
    """The number of items above the 99th percentile is beta-binomial; here 200 calibrations of 150 items."""
    flagged = [
        Calibration(measures(150, seed)).scores(measures(200, 1000 + seed)).odd(0.02).mean() for seed in range(200)
    ]
    assert abs(np.mean(flagged) - 3 / 151) < 4 * np.std(flagged) / np.sqrt(200)


def test_more_error_and_less_density_are_odder_and_units_do_not_count() -> None:
    typical = measures(300)
    calibration = Calibration(typical)
    base = calibration.scores(Measures(np.ones(1), np.ones(1), np.zeros(1))).score
    assert calibration.scores(Measures(np.full(1, 1.1), np.ones(1), np.zeros(1))).score > base
    assert calibration.scores(Measures(np.ones(1), np.ones(1), np.full(1, -0.1))).score > base
    others = measures(40, seed=1)
    scaled = [Measures(7 * m.deviation, 7 * m.energy, 3 * m.log_density + 11) for m in (typical, others)]
    np.testing.assert_allclose(Calibration(scaled[0]).scores(scaled[1]).score, calibration.scores(others).score)


@pytest.mark.parametrize("n", [2, 3])
def test_few_or_equal_typical_items_do(n: int) -> None:
    equal = Measures(np.ones(n), np.ones(n), np.ones(n))
    scores = Calibration(equal).scores(Measures(np.array([1.0, 5]), np.ones(2), np.array([1.0, -3])))
    assert np.isfinite(scores.score).all()
    assert scores.percentile.tolist() == [50, 100]


def test_a_constant_item_and_an_impossible_code_are_odd_and_finite() -> None:
    odd = Measures(np.full(2, 100.0), np.array([0.0, 1]), np.array([0.0, -np.inf]))
    scores = Calibration(measures(200)).scores(odd)
    assert np.isfinite(scores.score).all()
    assert scores.percentile.tolist() == [100, 100]


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_typical_items_calibrate_nothing(n: int) -> None:
    with pytest.raises(RaectlError, match="too few to calibrate") as caught:
        Calibration(Measures(np.ones(n), np.ones(n), np.ones(n)))
    assert caught.value.hint is not None and "--reference" in caught.value.hint


def test_typical_items_have_normal_scores_whatever_their_distribution() -> None:
    values = np.random.default_rng(0).exponential(size=999) ** 3
    scores = NormalScores(values)(values)
    assert stats.kstest(scores, "norm").statistic < 0.002
    new = NormalScores(values)(np.random.default_rng(1).exponential(size=2000) ** 3)
    assert stats.kstest(new, "norm").pvalue > 0.01
    tied = NormalScores(np.array([0.0, 0, 0, 1]))
    assert tied(np.zeros(1)) == pytest.approx(stats.norm.ppf([0.2, 0.4, 0.6]).mean())


def test_one_measure_does_not_make_up_for_the_other() -> None:
    calibration = Calibration(measures(500))
    badly = Measures(np.full(2, 1e3), np.ones(2), np.array([0.0, 50.0]))  # one in the middle, one of a likely code
    first, second = calibration.scores(badly).score
    assert first >= second > calibration.typical[-25]


def test_what_is_no_number_is_odd() -> None:
    nan = Measures(np.array([np.nan, 1]), np.ones(2), np.array([0.0, np.nan]))
    assert Calibration(measures(100)).scores(nan).percentile.tolist() == [100, 100]


@pytest.mark.parametrize(
    "wrong",
    [
        {"energy": np.ones(2)},
        {"energy": -np.ones(3)},
        {"deviation": np.ones(3, np.float32)},
        {"deviation": np.ones((3, 1))},
        {"log_density": np.array([0.0, np.inf, 0])},
    ],
)
def test_arrays_that_are_no_measures_are_told(wrong: dict[str, np.ndarray]) -> None:
    right = {"deviation": np.ones(3), "energy": np.ones(3), "log_density": np.zeros(3)}
    assert Measures.are_valid(right)
    assert not Measures.are_valid({**right, **wrong})


def test_a_flag_must_be_told_by_the_typical_items() -> None:
    assert check_flag(0.01, 100) == 0.01
    with pytest.raises(UsageError, match="finer than 99 held-out items") as caught:
        check_flag(0.01, 99)
    assert caught.value.hint is not None and "100 items" in caught.value.hint
    for flag in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(UsageError, match="out of range"):
            check_flag(flag, 1000)
