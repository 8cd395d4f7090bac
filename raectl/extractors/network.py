"""Base class of extractors that are pretrained networks, and safe loading of their weights."""

import pickle
import warnings
from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from raectl.errors import RaectlError
from raectl.extractors.images import ImageExtractor
from raectl.storage.arrays import file_digest


class NetworkExtractor(ImageExtractor):
    """Features of images from a network trained on ImageNet, in float32.

    Attributes:
        net: the network, in evaluation mode.
        digest: SHA-256 of the file of weights.
    """

    size: ClassVar[int]  # images of any shape are stretched to size x size pixels
    version: ClassVar[int]  # of the preprocessing, incremented whenever it changes

    def __init__(self, weights: Path | None = None, device: torch.device | str = "cpu") -> None:
        super().__init__(weights, device)
        with torch.random.fork_rng(devices=[]):  # for the random initialization before loading
            net, path = self._open(weights)
        self.digest = load_weights(net, path)
        net = self._prepare(net.eval().requires_grad_(False))
        self.net: Any = net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def key(self) -> str:
        return f"{self.name}-{self.size}px-v{self.version}-{self.digest[:16]}"

    def _features(self, x: Tensor) -> Tensor:
        x = self._preprocess(x)
        x = x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        # TensorFloat-32, cuDNN's default, has three digits only.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return self._forward(x)

    @abstractmethod
    def _open(self, weights: Path | None) -> tuple[nn.Module, Path]:
        """The network with random weights, and the file of its weights."""

    def _prepare(self, net: nn.Module) -> nn.Module:
        """An equivalent network that is faster, given the one with its weights."""
        return net

    @abstractmethod
    def _preprocess(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 255] on the CPU => (B, C, size, size), the network's input, on its device."""

    @abstractmethod
    def _forward(self, x: Tensor) -> Tensor:
        """(B, 3, size, size) => (B, D)."""


def load_weights(net: nn.Module, path: Path) -> str:
    """Load a file of weights into a network and return the file's SHA-256.

    Raises:
        RaectlError: the file is missing or damaged, or does not hold exactly the network's tensors.
    """
    digest = file_digest(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = f"{path} holds something else than tensors, or is damaged; it was not read any further"
        raise RaectlError(refused, "raectl runs no code from a file: give the published file of weights") from error
    except Exception as error:  # torch raises many types
        raise RaectlError(f"{path} is damaged, or no file of weights", "download it again") from error
    if not isinstance(found, dict):
        raise RaectlError(f"{path} holds no table of weights, but a {type(found).__name__}")
    # Batch norm's num_batches_tracked is not used, and missing in some files.
    wanted = {name: value for name, value in net.state_dict().items() if not name.endswith(".num_batches_tracked")}
    found = {name: value for name, value in found.items() if not str(name).endswith(".num_batches_tracked")}
    if mismatch := _mismatch(wanted, found):
        raise RaectlError(f"{path} does not hold this network's weights: {mismatch}")
    net.load_state_dict(found, strict=False)
    return digest


def _mismatch(wanted: dict[str, Tensor], found: dict[Any, Any]) -> str | None:
    """The first difference of `found` from `wanted` in names, types and shapes, or a value that is not finite."""
    if missing := wanted.keys() - found.keys():
        return f"of {len(wanted)} tensors {len(missing)} are missing, such as {_some(missing)}"
    if more := found.keys() - wanted.keys():
        return f"it has {len(more)} tensors too many, such as {_some(more)}"
    for name, value in wanted.items():
        other = found[name]
        if not isinstance(other, Tensor) or not other.is_floating_point():
            return f"{name} is no tensor of floating-point numbers"
        if other.shape != value.shape:
            return f"{name} has shape {tuple(other.shape)} instead of {tuple(value.shape)}"
        if not other.isfinite().all():
            return f"{name} has values that are not finite"
    return None


def _some(names: Iterable[Any]) -> str:
    return ", ".join(ascii(name)[:80] for name in sorted(names, key=str)[:3])
