"""Set metrics of generated strings.

Features have the columns (valid, identity, identity, score): 1 for a valid string, two integers below 2^24 that
identify the string, and, for extractors with a score, its score.
"""

import math

import torch
from torch import Tensor

from raectl.metrics.reference import Measured, Reference

_VALID, _SCORE = 0, 3


def validity(reference: Reference, features: Tensor) -> dict[str, Measured]:
    """Validity, uniqueness and novelty of strings, from features (M, D >= 3). Higher is better.

        valid     share of strings that are valid: complete strings of the grammar, or molecules that RDKit can parse
        unique    number of distinct valid strings / number of valid strings
        novel     share of the distinct valid strings that are not in the training data; omitted without training data

    If no string is valid, all are 0.
    """
    features = reference.check(features)
    valid = features[:, _VALID] > 0
    distinct = torch.unique(_identities(features))
    measured = {
        "valid": _share(int(valid.sum()), len(features)),
        "unique": Measured(len(distinct) / max(1, int(valid.sum()))),
    }
    training = reference.training()
    if training is not None:
        known = torch.isin(distinct, _identities(training))
        measured["novel"] = _share(len(distinct) - int(known.sum()), len(distinct))
    return measured


def score(reference: Reference, features: Tensor) -> dict[str, Measured]:
    """The mean score of all strings, from features (M, 4); invalid ones have the worst score. Lower is better."""
    return {"score": _mean(reference.check(features)[:, _SCORE])}


def score_of_valid(reference: Reference, features: Tensor) -> dict[str, Measured]:
    """The mean score of the valid strings, from features (M, 4); omitted if fewer than 2 are. Higher is better."""
    features = reference.check(features)
    scores = features[features[:, _VALID] > 0, _SCORE]
    return {"score-of-valid": _mean(scores)} if len(scores) >= 2 else {}


def _identities(features: Tensor) -> Tensor:
    """One integer for each valid string."""
    high, low = features[features[:, _VALID] > 0, 1:3].long().unbind(dim=1)
    return high * 2**24 + low


def _mean(scores: Tensor) -> Measured:
    scores = scores.double()
    return Measured(float(scores.mean()), float(scores.std() / math.sqrt(len(scores))))


def _share(part: int, total: int) -> Measured:
    p = part / max(1, total)
    return Measured(p, math.sqrt(p * (1 - p) / max(1, total)))
