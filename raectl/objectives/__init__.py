"""Objectives: scores of strings, (N,) => (N,) float64, for `optimize` and `evaluate`. One objective a file.

A new one is a subclass of `base.Objective` in a file here, and a line in the registry under "objective". (The loss that
training minimizes is in `raectl.model.loss`.)
"""

from raectl.objectives.base import Objective

__all__ = ["Objective"]
