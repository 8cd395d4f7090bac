"""Densities over latents: fitted after training to anybody's encodings, then sampled. See `base` for the contract."""

from raectl.densities.base import Density
from raectl.densities.choose import choose_components

__all__ = ["Density", "choose_components"]
