"""What a regularizer is: something done once to the decoder, a penalty at each step, or both."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class Regularizer(ABC):
    """A smoothness constraint on the decoder (Ghosh et al. 2020, section 3.1). Options are keyword arguments.

    `on_encoder` asks for `wrap` to be called on the encoder as well.
    """

    on_encoder = False

    @staticmethod
    @abstractmethod
    def default_weight(data_dim: int, latent_dim: int) -> float | None:
        """lam's default from D and d, or None for a regularizer that has no penalty and takes no weight."""

    def wrap(self, decoder: nn.Module) -> None:
        """Prepare the decoder, once, at build."""
        return

    def converge(self, decoder: nn.Module) -> None:
        """Bring what `wrap` added up to date with the weights, at an epoch's end, before they are judged and kept."""
        return

    @abstractmethod
    def penalty(self, decoder: nn.Module, z: Tensor, x_hat: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The penalty of each item, (B,).

        Arguments:
            decoder: the decoder that `wrap` has seen.
            z: (B, d), the decoder's input.
            x_hat: (B, *item_shape), its output for z, with its graph.
            generator: gives the random directions of an estimate.
        """


def kernels(module: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Every convolution and linear kernel below `module`, as (layer, attribute): parameters of two axes or more.

    Biases and batch norm have one axis. A reparametrized kernel is found under its own name, so that reading the
    attribute gives the effective one.
    """
    for layer in module.modules():
        if isinstance(layer, nn.utils.parametrize.ParametrizationList):
            continue
        parametrized = getattr(layer, "parametrizations", {})
        for name in [*dict(layer.named_parameters(recurse=False)), *parametrized]:
            if getattr(layer, name).dim() >= 2:
                yield layer, name
