"""Objectives: what is sought among strings, a number for each. One objective a file.

    strings (N,)  =>  scores (N,) float64

A new one is a subclass of `base.Objective` in a file here, and a line of the registry under "objective". Objectives
know text, and nothing of models. (What training minimizes is something else: `raectl.model.loss`.)
"""

from raectl.objectives.base import Objective

__all__ = ["Objective"]
