"""Small decoders for the tests of the regularizers."""

import torch
from torch import nn

D = 3  # latent dimensions of the small decoders


def convolutional() -> nn.Sequential:
    """(B, 3) => (B, 2, 4, 4), float64, with every kind of layer of the paper's decoders, batch norm stirred."""
    decoder = nn.Sequential(
        nn.Linear(D, 16),
        nn.Unflatten(1, (4, 2, 2)),
        nn.ConvTranspose2d(4, 3, 4, stride=2, padding=1),
        nn.BatchNorm2d(3, eps=1e-3),
        nn.ReLU(),
        nn.ConvTranspose2d(3, 2, 4, stride=1, padding=1),
        nn.ZeroPad2d((0, -1, 0, -1)),
        nn.Sigmoid(),
    ).double()
    stir_batch_norm(decoder)
    return decoder


def stir_batch_norm(decoder: nn.Module) -> None:
    for layer in decoder.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.normal_(layer.bias)
            nn.init.uniform_(layer.running_var, 0.5, 2)
            nn.init.normal_(layer.running_mean)


def smooth(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """(B, 3) => (B, 4), no batch norm, two layers for which there is no rule."""
    return nn.Sequential(nn.Linear(D, 5), nn.Tanh(), nn.Linear(5, 6), nn.GELU(), nn.Linear(6, 4)).to(dtype)
