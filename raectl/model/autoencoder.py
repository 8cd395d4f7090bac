"""The model: an encoder, a code and a decoder. What it is trained for is the objective's business."""

from collections.abc import Sequence

from torch import Tensor, nn

from raectl.model.architectures import Pair
from raectl.model.codes import Code
from raectl.model.regularizers import Regularizer


class Autoencoder(nn.Module):
    """x (B, *item_shape) -> encoder -> (B, F) -> code -> z (B, d) -> decoder -> x_hat (B, *item_shape).

    Arguments:
        pair: encoder and decoder.
        code: the code between them.
        latent_dim: d.
        regularizers: those that reparametrize the decoder do so here, once.
    """

    def __init__(self, pair: Pair, code: Code, latent_dim: int, regularizers: Sequence[Regularizer] = ()) -> None:
        super().__init__()
        self.encoder = pair.encoder
        self.code = code
        self.decoder = pair.decoder
        self.latent_dim = latent_dim
        for layer in self.modules():
            glorot_uniform(layer)
        self._regularized = [(r, part) for r in regularizers for part in self._parts(r)]
        for regularizer, part in self._regularized:
            regularizer.wrap(part)

    def _parts(self, regularizer: Regularizer) -> list[nn.Module]:
        return [self.decoder, self.encoder, self.code] if regularizer.on_encoder else [self.decoder]

    def converge(self) -> None:
        """Bring the regularizers' own state up to date with the weights; see `Regularizer.converge`."""
        for regularizer, part in self._regularized:
            regularizer.converge(part)

    def encode(self, x: Tensor) -> Tensor:
        """The point that stands for each item: (B, *item_shape) => (B, d)."""
        return self.code.mean(self.encoder(x))

    def decode(self, z: Tensor) -> Tensor:
        """(B, d) => (B, *item_shape)."""
        x_hat: Tensor = self.decoder(z)
        return x_hat


def glorot_uniform(layer: nn.Module) -> None:
    """Kernels uniform in +-sqrt(6 / (fan_in + fan_out)), biases zero: Keras's start, which the paper's code uses."""
    if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
