"""The model: an encoder, a code and a decoder."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from raectl.model.architectures import Pair
from raectl.model.codes import Code
from raectl.model.regularizers import Regularizer


class Autoencoder(nn.Module):
    """x (B, *item_shape) -> encoder -> (B, F) -> code -> z (B, d) -> decoder -> x_hat (B, *item_shape).

    The `wrap` of each regularizer is called here.
    """

    def __init__(self, pair: Pair, code: Code, latent_dim: int, regularizers: Sequence[Regularizer] = ()) -> None:
        super().__init__()
        self.encoder = pair.encoder
        self.code = code
        self.decoder = pair.decoder
        self.latent_dim = latent_dim
        self.apply(glorot_uniform)
        parts = (self.decoder, self.encoder, self.code)
        self._regularized = [(r, part) for r in regularizers for part in (parts if r.on_encoder else parts[:1])]
        for regularizer, part in self._regularized:
            regularizer.wrap(part)

    def converge(self) -> None:
        """Call `Regularizer.converge` for each regularizer."""
        for regularizer, part in self._regularized:
            regularizer.converge(part)

    def perturb(self, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """What the decoder sees of codes z: in training, `Regularizer.perturb` of each: (B, d) => (B, d)."""
        for regularizer, part in self._regularized if self.training else ():
            z = regularizer.perturb(z, generator) if part is self.decoder else z
        return z

    def encode(self, x: Tensor) -> Tensor:
        """The mean of each item's code: (B, *item_shape) => (B, d)."""
        return self.code.mean(self.encoder(x))

    def decode(self, z: Tensor) -> Tensor:
        """(B, d) => (B, *item_shape)."""
        x_hat: Tensor = self.decoder(z)
        return x_hat


def glorot_uniform(layer: nn.Module) -> None:
    """Weights uniform in +-sqrt(6 / (fan_in + fan_out)), biases zero: Keras's default, as in the paper's code."""
    if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
