"""Encoder and decoder pairs. A new one is a file here and a registry line."""

from raectl.model.architectures.pair import Pair

__all__ = ["Pair"]
