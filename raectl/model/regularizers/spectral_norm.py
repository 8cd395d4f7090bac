"""Spectral normalization of the decoder's weights."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from raectl.errors import UsageError
from raectl.model.regularizers.base import Regularizer, kernels

_POWER_ITERATIONS = 200  # iterations
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class SpectralNorm(Regularizer):
    """Every kernel divided by its largest singular value, by power iteration (RAE-SN; Miyato et al. 2018).

    Arguments:
        view: which matrix a transposed convolution's kernel (in, out, kh, kw) is: `torch` takes (out, in kh kw),
            `released` the paper's code's (in, out kh kw). The two have different largest singular values.
        encoder: normalize the encoder as well, as the paper's code (not the paper) does.
    """

    def __init__(self, view: str = "torch", encoder: bool = False) -> None:
        if view not in ("torch", "released"):
            raise UsageError(f"--sn-view {view!r} is none of torch, released")
        self.view = view
        self.encoder = self.on_encoder = encoder

    @staticmethod
    def default_weight(data_dim: int, latent_dim: int) -> None:
        """Takes no weight: it is a constraint, not a penalty."""
        return

    def wrap(self, decoder: nn.Module) -> None:
        """Reparametrize each kernel; one power iteration runs at every training step."""
        for layer, name in list(kernels(decoder)):
            rows = int(isinstance(layer, _TRANSPOSED) and self.view == "torch")
            spectral_norm(layer, name, n_power_iterations=1, dim=rows)

    @torch.no_grad()
    def converge(self, decoder: nn.Module) -> None:
        """Let the power iteration converge: one a step lags behind weights that move fast."""
        for layer in decoder.modules():
            if parametrize.is_parametrized(layer):
                was_training = layer.training
                layer.train()  # reading the kernel then makes an iteration
                for name in layer.parametrizations:  # type: ignore[union-attr]
                    for _ in range(_POWER_ITERATIONS):
                        getattr(layer, name)
                layer.train(was_training)

    def penalty(self, decoder: nn.Module, z: Tensor, x_hat: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Zeros, (B,): the constraint holds by construction."""
        return z.new_zeros(len(z))
