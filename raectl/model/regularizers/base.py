"""The interface of a regularizer: a reparametrization of the decoder, a penalty, noise on its input, or several."""

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn

from raectl.config import Component


class Regularizer(Component):
    """A smoothness constraint on the decoder (Ghosh et al. 2020, section 3.1). One with a penalty has a `weight`.

    A method that is not overridden does nothing.
    """

    penalizes: ClassVar[bool] = True  # whether its weight is that of a penalty

    @property
    def on_encoder(self) -> bool:
        """Whether `wrap` and `converge` get the encoder as well."""
        return False

    @staticmethod
    def default_weight(data_dim: int, latent_dim: int) -> float | None:
        """The default of `weight`, lam, given D and d; None for a regularizer without a penalty, which has none."""
        return None

    def wrap(self, decoder: nn.Module) -> None:
        """Prepare the decoder, once, when the model is built."""

    def converge(self, decoder: nn.Module) -> None:
        """Update the state that `wrap` added to the current weights, at the end of an epoch, before validation."""

    def perturb(self, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """What the decoder sees in training in place of the codes z: (B, d) => (B, d)."""
        return z

    def penalty(self, decoder: nn.Module, z: Tensor, x_hat: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The penalty of each item, (B,).

        Arguments:
            decoder: the decoder that `wrap` was called with.
            z: (B, d), the decoder's input.
            x_hat: (B, *item_shape), its output for z, with its graph.
            generator: draws random directions.
        """
        return z.new_zeros(len(z))


class NoRegularizer(Regularizer):
    """`--reg none`."""


def kernels(module: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """The kernels of convolutions and linear layers in `module`, as (layer, attribute): parameters of two axes or more.

    For a reparametrized kernel, the attribute is the effective kernel.
    """
    for layer in module.modules():
        if isinstance(layer, nn.utils.parametrize.ParametrizationList):
            continue
        parametrized = getattr(layer, "parametrizations", {})
        for name in [*dict(layer.named_parameters(recurse=False)), *parametrized]:
            if getattr(layer, name).dim() >= 2:
                yield layer, name
