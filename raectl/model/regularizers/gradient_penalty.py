"""The gradient penalty: how much the decoder's output moves with its input."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raectl.errors import UsageError
from raectl.model.regularizers.base import Regularizer
from raectl.model.regularizers.tangent import Trace


class GradientPenalty(Regularizer):
    """L = ||J||_F^2 with J = dD/dz at the item's code (RAE-GP; Ghosh et al. 2020, section 3).

    Arguments:
        form: `exact` estimates it without bias by E ||J v||^2 over random signs v in latent space (Hutchinson 1990),
            with one tangent carried through the decoder; batch norm's statistics are constants.
        part: how much of a training batch the exact form looks at, in (0, 1]. The items are in a random order, so the
            first of them, each counted the more, leave it without bias; see benchmarks/README.md for what a quarter
            costs and loses. What is not trained on (validation) is looked at in full.
            `released` is the released code's quantity, mean_j (d/dz_j sum D(z)^2)^2 = 4/d ||J^T D(z)||^2, which is
            not the paper's and vanishes where the output is black; it differentiates through batch norm too.
    """

    def __init__(self, form: str = "exact", part: float = 0.25) -> None:
        forms = {"exact": self._exact, "released": self._released}
        if form not in forms:
            raise UsageError(f"--gp-form {form!r} is none of {', '.join(forms)}")
        if isinstance(part, bool) or not isinstance(part, int | float) or not 0 < part <= 1:
            raise UsageError(f"--gp-part {part!r} is not above 0 and at most 1")
        self.form, self.part = form, part
        self._penalty = forms[form]
        self._trace: Trace | None = None

    @staticmethod
    def default_weight(data_dim: int, latent_dim: int) -> float:
        """The largest weight that cost neither reconstructions nor samples in the sweep of benchmarks/README.md."""
        return 1e-2

    def wrap(self, decoder: nn.Module) -> None:
        """Remember what the decoder's layers see, for the exact form."""
        if self.form == "exact":
            self._trace = Trace(decoder)

    def penalty(self, decoder: nn.Module, z: Tensor, x_hat: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The penalty of each item, (B,); 0 for those that are not looked at."""
        return self._penalty(decoder, z, x_hat, generator)

    def _exact(self, decoder: nn.Module, z: Tensor, x_hat: Tensor, generator: torch.Generator | None) -> Tensor:
        count = math.ceil(self.part * len(z)) if torch.is_grad_enabled() else len(z)
        signs = torch.randint(0, 2, (count, z.shape[1]), generator=generator, device=z.device).to(z.dtype)
        values = self.directional(decoder, z, x_hat, signs.mul_(2).sub_(1)) * (len(z) / count)
        return F.pad(values, (0, len(z) - count))

    def directional(self, decoder: nn.Module, z: Tensor, x_hat: Tensor, direction: Tensor) -> Tensor:
        """||J v||^2 for one direction v an item, of the first b: (b, d) => (b,). Over the d unit vectors, ||J||_F^2."""
        trace = self._trace or Trace(decoder)
        if not trace.saw(x_hat):  # not the pass that was recorded: validation, or a decoder that was not wrapped
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
