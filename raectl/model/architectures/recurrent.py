"""The Grammar VAE's networks for derivations (T, D): a convolutional encoder and a recurrent decoder.

    net              encoder: filters of kernel, 'valid'     dense  d   decoder: dense to d, repeated T times
    conv-gru         (2, 2) (3, 3) (4, 4), BN after each     100    25  BN before it; 3 GRU of 100, dense to D
    conv-gru-large   (9, 9) (9, 9) (10, 11)                  435    56  3 GRU of 501, dense to D
    conv-gru-medium  the same                                222    56  3 GRU of 256, dense to D: raectl's, for a CPU

A derivation is a sequence of T productions of a grammar, one-hot. The sizes are at width 32; dense layers and GRUs
scale with the width, filters do not. A derivation shorter than the kernels require is padded at its end. The decoder
is not autoregressive and ends with a softmax over all D productions; the modality masks those that do not apply.

PyTorch's GRU has sigmoid gates, where Keras 1 had piecewise linear ones, and a bias inside the reset gate's product.

Reference: Kusner, Paige, Hernández-Lobato, "Grammar Variational Autoencoder", ICML 2017, and its code.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from raectl.model.architectures.pair import Pair, unpacked

_BN_EPS = 1e-3
_WIDTH = 32  # width at which the sizes are the reference's
_LAYERS = 3


class ToChannels(nn.Module):
    """(B, T, D) => (B, D, T)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


class Repeat(nn.Module):
    """Repeat a vector at every step: (B, d) => (B, T, d)."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length

    def forward(self, z: Tensor) -> Tensor:
        return z[:, None].expand(-1, self.length, -1)


class Recurrent(nn.Module):
    """Layers of GRUs, in float32: (B, T, d) => (B, T, units).

    Initialized as in Keras: for each gate, input weights Glorot uniform, recurrent weights orthogonal, biases zero.
    """

    def __init__(self, features: int, units: int) -> None:
        super().__init__()
        self.gru = nn.GRU(features, units, _LAYERS, batch_first=True)
        for name, parameter in self.gru.named_parameters():
            for gate in parameter.detach().chunk(3):
                initialize = nn.init.xavier_uniform_ if "weight_ih" in name else nn.init.orthogonal_
                (initialize if gate.dim() > 1 else nn.init.zeros_)(gate)

    def forward(self, x: Tensor) -> Tensor:
        if parametrize.is_parametrized(self.gru):  # nn.GRU keeps references to the weights before parametrization
            self.gru._flat_weights = [getattr(self.gru, name) for name in self.gru._flat_weights_names]
        with torch.autocast(x.device.type, enabled=False):
            outputs: Tensor = self.gru(x.float())[0]
        return outputs


class Softmax(nn.Module):
    """Probabilities of the productions at each step: (B, T, D) => (B, T, D) float32."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(x.float(), dim=2)


def recurrent(
    item_shape: tuple[int, ...],
    latent_dim: int,
    width: int,
    bn_momentum: float,
    *,
    convolutions: tuple[tuple[int, int], ...],
    dense: int,
    units: int,
    batch_norm: bool,
) -> Pair:
    """Encoder and decoder for derivations (T, D); `convolutions` are (filters, kernel)."""
    length, size = unpacked(item_shape, ("T", "D"))
    dense, units = (max(1, round(n * width / _WIDTH)) for n in (dense, units))

    def normalized(channels: int) -> list[nn.Module]:
        return [nn.BatchNorm1d(channels, eps=_BN_EPS, momentum=bn_momentum)] if batch_norm else []

    least = 1 + sum(kernel - 1 for _, kernel in convolutions)
    encoder: list[nn.Module] = [ToChannels()]
    if length < least:
        encoder.append(nn.ZeroPad1d((0, least - length)))
    channels, steps = size, max(length, least)
    for filters, kernel in convolutions:
        encoder += [nn.Conv1d(channels, filters, kernel), nn.ReLU(), *normalized(filters)]
        channels, steps = filters, steps - kernel + 1
    encoder += [nn.Flatten(), nn.Linear(channels * steps, dense), nn.ReLU()]

    decoder = nn.Sequential(
        *normalized(latent_dim),
        nn.Linear(latent_dim, latent_dim),
        nn.ReLU(),
        Repeat(length),
        Recurrent(latent_dim, units),
        nn.Linear(units, size),
        Softmax(),
    )
    return Pair(nn.Sequential(*encoder), dense, decoder)


ConvGRU = partial(recurrent, convolutions=((2, 2), (3, 3), (4, 4)), dense=100, units=100, batch_norm=True)
ConvGRULarge = partial(recurrent, convolutions=((9, 9), (9, 9), (10, 11)), dense=435, units=501, batch_norm=False)
ConvGRUMedium = partial(ConvGRULarge, dense=222, units=256)
