"""Objectives: scores of strings, for `optimize` and `evaluate`. (The loss of training is in `raectl.model.loss`.)"""

from raectl.objectives.base import Objective

__all__ = ["Objective"]
