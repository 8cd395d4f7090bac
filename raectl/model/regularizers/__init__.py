"""Regularizers of the decoder: what stands where a VAE injects noise. A new one is a file here and a registry line."""

from raectl.model.regularizers.base import Regularizer, kernels

__all__ = ["Regularizer", "kernels"]
