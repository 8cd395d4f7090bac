"""Densities over latents: fitted after training to the encodings of any model, then sampled. Interface: `base`."""

from raectl.densities.base import Density
from raectl.densities.gaussian import Gaussian
from raectl.densities.mixtures.choose import choose_components
from raectl.densities.mixtures.gmm import GMM
from raectl.densities.standard_normal import StandardNormal

__all__ = ["GMM", "Density", "Gaussian", "StandardNormal", "choose_components"]
