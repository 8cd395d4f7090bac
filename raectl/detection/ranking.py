"""How well scores rank odd items before typical ones: areas under curves, with bootstrap intervals."""

from typing import NamedTuple

import numpy as np

from raectl import rng

RESAMPLES = 1000
LEVEL = 0.95


class Interval(NamedTuple):
    """A value, and a percentile bootstrap interval around it."""

    value: float
    low: float
    high: float


class Ranking(NamedTuple):
    """How well odd items are ranked first.

    Arguments:
        auroc: area under the ROC curve: the probability that an odd item scores higher than a typical one, equal half.
        auprc: average precision, the area under the precision-recall curve; its value by chance is the share of odd
            items.
        f1: harmonic mean of precision and recall at the flag.
    """

    auroc: Interval
    auprc: Interval
    f1: Interval


def ranking(score: np.ndarray, is_odd: np.ndarray, flagged: np.ndarray, seed: int = 0) -> Ranking:
    """The areas and F1 of scores, with 95 % intervals of 1,000 stratified bootstrap resamples.

    Arguments:
        score, is_odd, flagged: (N,); both kinds of items are there.
        seed: of the resamples.

    References: Fawcett, "An Introduction to ROC Analysis", 2006; Davis, Goadrich, "The Relationship Between
    Precision-Recall and ROC Curves", ICML 2006 (no interpolation); Efron, Tibshirani, "An Introduction to the
    Bootstrap", 1993.

    Example:
        >>> found = ranking(np.array([1.0, 2, 3, 4]), np.array([0, 0, 1, 1]) > 0, np.array([0, 0, 0, 1]) > 0)
        >>> found.auroc.value, found.auprc.value, round(found.f1.value, 3)
        (1.0, 1.0, 0.667)
    """
    order = np.argsort(-score, kind="stable")
    score, is_odd, flagged = score[order], is_odd[order], flagged[order]
    ends = np.flatnonzero(np.r_[np.diff(score) != 0, True])  # of runs of equal scores
    kinds = [np.flatnonzero(is_odd == kind) for kind in (False, True)]
    found = []
    for resample in range(RESAMPLES + 1):
        counts = np.ones(len(score))
        if resample:
            for rows in kinds:
                n = len(rows)
                drawn = rng.uniforms(seed, resample * len(score), n, 1, f"bootstrap of {int(is_odd[rows[0]])}")
                counts[rows] = np.bincount((drawn[:, 0] * n).astype(np.int64), minlength=n)
        found.append(_areas(counts, is_odd, flagged, ends))
    values = np.array(found)
    low, high = np.quantile(values[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return Ranking(*(Interval(*map(float, column)) for column in zip(values[0], low, high, strict=True)))


def _areas(counts: np.ndarray, is_odd: np.ndarray, flagged: np.ndarray, ends: np.ndarray) -> tuple[float, float, float]:
    """The three measures, of items sorted from the highest score down, that count so many times."""
    odd = np.cumsum(counts * is_odd)[ends]  # true positives at each threshold
    typical = np.cumsum(counts * ~is_odd)[ends]
    new_odd, new_typical = np.diff(odd, prepend=0), np.diff(typical, prepend=0)
    auroc = float((new_typical * (odd - new_odd / 2)).sum() / (odd[-1] * typical[-1]))
    precision = odd / np.maximum(odd + typical, 1)
    auprc = float((new_odd * precision).sum() / odd[-1])
    f1 = 2 * float((counts * (is_odd & flagged)).sum()) / float((counts * is_odd).sum() + (counts * flagged).sum())
    return auroc, auprc, f1
