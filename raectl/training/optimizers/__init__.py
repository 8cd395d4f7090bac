"""Optimizers of the training. A new one is a file here and a line in the registry."""

from raectl.training.optimizers.base import Optimizer

__all__ = ["Optimizer"]
