"""Extractors: an item becomes a vector of features, in which sets of items are compared. One extractor a file.

    items (B, ...)  =>  features (B, D) float32

A distance between two sets of images is a distance between their features, so a number means something only together
with the extractor's `key`. See `base` for the contract; extractors know items as they are shown to a person, and
nothing of models or densities.
"""

from raectl.extractors.base import Extractor

__all__ = ["Extractor"]
