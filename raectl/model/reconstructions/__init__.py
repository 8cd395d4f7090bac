"""Reconstruction terms of the loss. A new one is a file here and a line in the registry."""

from raectl.model.reconstructions.base import Reconstruction, fill_in, for_modality

__all__ = ["Reconstruction", "fill_in", "for_modality"]
