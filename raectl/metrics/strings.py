"""What is measured of a set of generated strings.

Features have the columns (valid, identity, identity, score): the first is 1 for a string that is good, the next two are
equal for equal strings, whole numbers below 2^24. The last only expressions and the like have.
"""

import math

import torch
from torch import Tensor

from raectl.metrics.reference import Measured, Reference

_VALID, _SCORE = 0, 3


def validity(reference: Reference, features: Tensor) -> dict[str, Measured]:
    """How many strings are good, different, and new. Higher is better.

        valid     share of all that are finished strings of the grammar; of molecules, that chemistry allows
        unique    share of the valid that are left when each is counted once
        novel     share of those that are not among the training data; left out where these are gone

    Where nothing is valid, the others are 0.

    Arguments:
        reference: features of real strings, and of those of the training.
        features: (M, D >= 3).
    """
    features = reference.check(features)
    valid = features[:, _VALID] > 0
    different = torch.unique(_identities(features))
    measured = {
        "valid": _share(int(valid.sum()), len(features)),
        "unique": Measured(len(different) / max(1, int(valid.sum()))),
    }
    training = reference.training()
    if training is not None:
        known = torch.isin(different, _identities(training))
        measured["novel"] = _share(len(different) - int(known.sum()), len(different))
    return measured


def score(reference: Reference, features: Tensor) -> dict[str, Measured]:
    """The mean score of all strings, those included that are not valid and have the worst. Lower is better.

    Arguments:
        reference: features of real strings.
        features: (M, 4).
    """
    scores = reference.check(features)[:, _SCORE].double()
    return {"score": Measured(float(scores.mean()), float(scores.std() / math.sqrt(len(scores))))}


def score_of_valid(reference: Reference, features: Tensor) -> dict[str, Measured]:
    """The mean score of the valid strings, where one that is not valid has none. Higher is better.

    Left out where fewer than two are valid.

    Arguments:
        reference: features of real strings.
        features: (M, 4).
    """
    features = reference.check(features)
    scores = features[features[:, _VALID] > 0, _SCORE].double()
    if len(scores) < 2:
        return {}
    return {"score-of-valid": Measured(float(scores.mean()), float(scores.std() / math.sqrt(len(scores))))}


def _identities(features: Tensor) -> Tensor:
    """One whole number for each valid string."""
    high, low = features[features[:, _VALID] > 0, 1:3].long().unbind(dim=1)
    return high * 2**24 + low


def _share(part: int, total: int) -> Measured:
    p = part / max(1, total)
    return Measured(p, math.sqrt(p * (1 - p) / max(1, total)))
