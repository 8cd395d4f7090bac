"""Features of items, in which sets of items are compared; a number is comparable only for one extractor `key`."""

from raectl.extractors.base import Extractor

__all__ = ["Extractor"]
