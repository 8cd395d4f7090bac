"""What the extractors that are networks share: weights that are checked as they are read, and float32 throughout."""

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
    """Features that a network trained on ImageNet gives.

    Attributes:
        size: side of the square that every image is brought to, in pixels.
        version: of the preprocessing, counted up whenever it changes.
        net: the network, in evaluation mode.
        digest: SHA-256 of the file that the weights came from.
    """

    size: ClassVar[int]
    version: ClassVar[int]

    def __init__(self, weights: Path | None = None, device: torch.device | str = "cpu") -> None:
        super().__init__(weights, device)
        with torch.random.fork_rng(devices=[]):  # a network draws its weights before it is given others
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
        # TensorFloat-32, cuDNN's default, keeps three digits.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return self._forward(x)

    @abstractmethod
    def _open(self, weights: Path | None) -> tuple[nn.Module, Path]:
        """The network without its weights, and the file they are in."""

    def _prepare(self, net: nn.Module) -> nn.Module:
        """The network with its weights, changed to run faster."""
        return net

    @abstractmethod
    def _preprocess(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 255] on the CPU => (B, C, size, size) as the network wants it, on its device."""

    @abstractmethod
    def _forward(self, x: Tensor) -> Tensor:
        """(B, 3, size, size) => (B, D)."""


def load_weights(net: nn.Module, path: Path) -> str:
    """Read a file of weights into a network that has exactly these; the file's SHA-256.

    Raises:
        RaectlError: the file is missing, damaged, holds anything but tensors, or other tensors than the network's.
    """
    digest = file_digest(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch has to say of a file that it refuses
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = f"{path} holds something else than tensors, or is damaged; it was not read any further"
        raise RaectlError(refused, "raectl runs no code from a file: give the published file of weights") from error
    except Exception as error:  # whatever the damage is
        raise RaectlError(f"{path} is damaged, or no file of weights", "download it again") from error
    if not isinstance(found, dict):
        raise RaectlError(f"{path} holds no table of weights, but a {type(found).__name__}")
    # How many batches a normalization has seen is not always in the file, and not used.
    wanted = {name: value for name, value in net.state_dict().items() if not name.endswith(".num_batches_tracked")}
    found = {name: value for name, value in found.items() if not str(name).endswith(".num_batches_tracked")}
    if fault := _fault(wanted, found):
        raise RaectlError(f"{path} does not hold this network's weights: {fault}")
    net.load_state_dict(found, strict=False)
    return digest


def _fault(wanted: dict[str, Tensor], found: dict[Any, Any]) -> str | None:
    """What keeps `found` from being the weights `wanted`, if something does."""
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
