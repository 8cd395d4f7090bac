"""Spectral normalization of the decoder's weights."""

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from raectl.config import Option
from raectl.model.regularizers.base import Regularizer, kernels

_POWER_ITERATIONS = 200  # of `converge`
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class SpectralNorm(Regularizer):
    """Each kernel is divided by its largest singular value, by power iteration (RAE-SN; Miyato et al. 2018).

    A transposed convolution's kernel (in, out, kh, kw) is reshaped to the matrix (out, in kh kw) in the view `torch`,
    to (in, out kh kw), which has other singular values, in the view `released`.
    """

    view = Option(
        "torch",
        "How transposed convolutions are seen as matrices: by PyTorch, or by the paper's code.",
        choices=("torch", "released"),
    )
    encoder = Option(False, "Normalize the encoder as well, as the paper's code does.")

    @property
    def on_encoder(self) -> bool:
        return self.encoder

    def wrap(self, decoder: nn.Module) -> None:
        """Reparametrize each kernel; every training step makes one power iteration."""
        for layer, name in list(kernels(decoder)):
            rows = int(isinstance(layer, _TRANSPOSED) and self.view == "torch")
            spectral_norm(layer, name, n_power_iterations=1, dim=rows)

    @torch.no_grad()
    def converge(self, decoder: nn.Module) -> None:
        """Run the power iteration to convergence; one iteration per step lags behind fast weights."""
        for layer in decoder.modules():
            if parametrize.is_parametrized(layer):
                was_training = layer.training
                layer.train()  # reading the kernel makes an iteration in training mode
                for name in layer.parametrizations:  # type: ignore[union-attr]
                    for _ in range(_POWER_ITERATIONS):
                        getattr(layer, name)
                layer.train(was_training)
