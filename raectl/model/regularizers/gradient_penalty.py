"""The gradient penalty: the squared norm of the decoder's Jacobian."""

import math
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raectl.config import WEIGHT, Option
from raectl.model.regularizers.base import Regularizer
from raectl.model.regularizers.tangent import Trace


class GradientPenalty(Regularizer):
    """L = ||J||_F^2 with J = dD/dz at the item's code (RAE-GP; Ghosh et al. 2020, section 3).

    The form `exact` is the unbiased estimate ||J v||^2 with random signs v (Hutchinson 1990), computed by forward-mode
    differentiation, with batch norm's statistics as constants; on a part of each batch, scaled, it stays unbiased.
    `released` is the quantity of the paper's code, mean_j (d/dz_j sum D(z)^2)^2 = 4/d ||J^T D(z)||^2, which
    differentiates through these statistics and, unlike the paper's penalty, vanishes where the output is black.
    """

    weight = replace(WEIGHT, shown="0.01")
    form = Option("exact", "Exact (Frobenius norm), or that of the paper's code.", choices=("exact", "released"))
    part = Option(0.25, "Share of a training batch on which the exact form is estimated.", above=0, high=1)

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._trace: Trace | None = None

    @staticmethod
    def default_weight(data_dim: int, latent_dim: int) -> float:
        """The largest weight that worsened neither reconstructions nor samples; see benchmarks/README.md."""
        return 1e-2

    def wrap(self, decoder: nn.Module) -> None:
        """Record the layers' inputs and outputs in forward passes, for the exact form."""
        if self.form == "exact":
            self._trace = Trace(decoder)

    def penalty(self, decoder: nn.Module, z: Tensor, x_hat: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The penalty of each item, (B,); 0 for items outside `part`."""
        return {"exact": self._exact, "released": self._released}[self.form](decoder, z, x_hat, generator)

    def _exact(self, decoder: nn.Module, z: Tensor, x_hat: Tensor, generator: torch.Generator | None) -> Tensor:
        count = math.ceil(self.part * len(z)) if torch.is_grad_enabled() else len(z)
        signs = torch.randint(0, 2, (count, z.shape[1]), generator=generator, device=z.device).to(z.dtype)
        values = self.directional(decoder, z, x_hat, signs.mul_(2).sub_(1)) * (len(z) / count)
        return F.pad(values, (0, len(z) - count))

    def directional(self, decoder: nn.Module, z: Tensor, x_hat: Tensor, direction: Tensor) -> Tensor:
        """||J v||^2 of the first b items, for one direction v each: (b, d) => (b,)."""
        trace = self._trace or Trace(decoder)
        if not trace.saw(x_hat):  # validation, or a decoder that was not wrapped
            trace.replay(decoder, z)
        if trace is not self._trace:
            trace.remove()
        return trace.push(direction).flatten(1).float().square().sum(dim=1)

    def _released(self, decoder: nn.Module, z: Tensor, x_hat: Tensor, generator: torch.Generator | None) -> Tensor:
        with torch.enable_grad():
            if not (z.requires_grad and x_hat.requires_grad):
                z = z.detach().requires_grad_()
                x_hat = decoder(z)
            energy = x_hat.float().square().sum()
            (gradient,) = torch.autograd.grad(energy, z, create_graph=True)
        return gradient.square().mean(dim=1)
