"""Regularizers of the decoder, the RAE's substitute for noise. A new one is a file here and a line in the registry."""

from raectl.model.regularizers.base import Regularizer, kernels

__all__ = ["Regularizer", "kernels"]
