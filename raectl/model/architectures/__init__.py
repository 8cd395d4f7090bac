"""Pairs of an encoder and a decoder. A new one is a file here and a line in the registry."""

from raectl.model.architectures.pair import Pair

__all__ = ["Pair"]
