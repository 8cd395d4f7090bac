"""A multilayer perceptron for items of any shape, values in [0, 1]."""

import math

from torch import nn

from raectl.model.architectures.pair import Pair, Sigmoid

_HIDDEN = 16  # hidden units per unit of width: 512 at the default of 32


def MLP(item_shape: tuple[int, ...], latent_dim: int, width: int, bn_momentum: float) -> Pair:  # noqa: N802
    """Encoder and decoder with two hidden layers of 16 * width ReLU units each, no batch norm, a sigmoid at the end."""
    values, hidden = math.prod(item_shape), _HIDDEN * width
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(values, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
    layers = (nn.Linear(latent_dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
    decoder = nn.Sequential(*layers, nn.Linear(hidden, values), nn.Unflatten(1, item_shape), Sigmoid())
    return Pair(encoder, hidden, decoder)
