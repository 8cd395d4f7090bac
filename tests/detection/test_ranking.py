"""Areas under curves against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from raectl.detection.ranking import ranking


@pytest.mark.parametrize("decimals", [8, 1, 0])
def test_the_areas_are_scikit_learn_s_also_with_ties(decimals: int) -> None:
    rng = np.random.default_rng(decimals)
    is_odd = rng.random(300) < 0.2
    score = np.round(rng.normal(size=300) + is_odd, decimals)
    flagged = score > 1
    found = ranking(score, is_odd, flagged)
    assert found.auroc.value == pytest.approx(roc_auc_score(is_odd, score))
    assert found.auprc.value == pytest.approx(average_precision_score(is_odd, score))
    assert found.f1.value == pytest.approx(f1_score(is_odd, flagged))


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Two normal distributions one deviation apart have an area of Phi(1 / sqrt 2) = 0.7602."""
    held = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        is_odd = np.arange(200) < 60
        found = ranking(rng.normal(size=200) + is_odd, is_odd, is_odd, seed).auroc
        held += found.low <= 0.7602 <= found.high
    assert 50 <= held <= 60  # 57 are expected; 50 or fewer by chance once in 700 times


def test_the_order_of_the_items_does_not_count_and_the_seed_does() -> None:
    rng = np.random.default_rng(0)
    score, is_odd = rng.normal(size=100), rng.random(100) < 0.3
    order = rng.permutation(100)
    first = ranking(score, is_odd, is_odd)
    assert first == ranking(score[order], is_odd[order], is_odd[order])
    assert first.auroc != ranking(score, is_odd, is_odd, seed=1).auroc


def test_no_flags_are_no_f1() -> None:
    found = ranking(np.arange(4.0), np.array([False, False, True, True]), np.zeros(4, bool))
    assert found.f1.value == 0
