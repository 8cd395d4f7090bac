"""How near reconstructed derivations are to their originals; a run's number is the mean over its items.

The last of the D rules is the padding.
"""

import torch


def exact_match(x: torch.Tensor, x_hat: torch.Tensor) -> torch.Tensor:
    """Whether every rule is right: 1 or 0. Higher is better; the mean over items is the rate of exact reconstructions.

    Arguments:
        x: (B, T, D), one-hot.
        x_hat: the derivations that reconstructions of `x` were decoded to, likewise.

    Returns:
        (B,) float64.
    """
    return (x.argmax(dim=2) == x_hat.argmax(dim=2)).all(dim=1).double()


def production_accuracy(x: torch.Tensor, x_hat: torch.Tensor) -> torch.Tensor:
    """The share of steps whose rule is right; higher is better. Steps where both have ended do not count.

    Arguments:
        x: (B, T, D), one-hot.
        x_hat: the derivations that reconstructions of `x` were decoded to, likewise.

    Returns:
        (B,) float64, in [0, 1].
    """
    a, b = x.argmax(dim=2), x_hat.argmax(dim=2)
    padding = x.shape[2] - 1
    steps = ((a != padding) | (b != padding)).sum(dim=1)
    wrong = (a != b).sum(dim=1)
    return 1 - wrong.double() / steps.clamp_min(1)
