"""The interface of a regularizer: a reparametrization of the decoder, a penalty, or both."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn


class Regularizer:
    """A smoothness constraint on the decoder (Ghosh et al. 2020, section 3.1). Options are keyword arguments.

    A method that is not overridden does nothing. If `on_encoder`, `wrap` and `converge` get the encoder as well.
    """

    on_encoder = False

    @staticmethod
    def default_weight(data_dim: int, latent_dim: int) -> float | None:
        """The default of lam, given D and d; None for a regularizer without a penalty, which takes no weight."""
        return None

    def wrap(self, decoder: nn.Module) -> None:
        """Prepare the decoder, once, when the model is built."""

    def converge(self, decoder: nn.Module) -> None:
        """Update the state that `wrap` added to the current weights, at the end of an epoch, before validation."""

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
