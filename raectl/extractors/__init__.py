"""Feature extractors for metrics on sets of items: items (B, ...) => features (B, D) float32.

A distance between two sets is a distance between their features, so values are comparable only for the same extractor
`key`. `base` has the interface. Extractors read items as `Modality.shown` gives them.
"""

from raectl.extractors.base import Extractor

__all__ = ["Extractor"]
