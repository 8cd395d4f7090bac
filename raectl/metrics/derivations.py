"""Reconstruction metrics of strings, given as derivations; the value of a run is the mean over its items.

A derivation is a sequence of T productions of a grammar, one-hot; the last of the D productions is the padding.
"""

import torch


def exact_match(x: torch.Tensor, x_hat: torch.Tensor) -> torch.Tensor:
    """1 if all productions are reconstructed, else 0: x, x_hat (B, T, D) => (B,) float64. Higher is better.

    `x_hat` are the derivations decoded from reconstructions of `x`.
    """
    return (x.argmax(dim=2) == x_hat.argmax(dim=2)).all(dim=1).double()


def production_accuracy(x: torch.Tensor, x_hat: torch.Tensor) -> torch.Tensor:
    """The share of correct productions: x, x_hat (B, T, D) => (B,) float64 in [0, 1]. Higher is better.

    Steps where both derivations are padding do not count. `x_hat` is as for `exact_match`.
    """
    a, b, padding = x.argmax(dim=2), x_hat.argmax(dim=2), x.shape[2] - 1
    steps = ((a != padding) | (b != padding)).sum(dim=1)
    return 1 - (a != b).sum(dim=1).double() / steps.clamp_min(1)
