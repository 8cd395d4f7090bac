"""The interface of a modality, the only thing that knows what a datum is.

Everything else sees `x: (B, *item_shape)` float32 and `z: (B, d)`. Items are stored as bytes, (N, *stored_shape)
uint8; a modality turns them into tensors and back, compares, draws and writes them.
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raectl import registry
from raectl.data import DataOptions
from raectl.errors import RaectlError, UsageError
from raectl.storage.atomic import require_parent

_FILE_TYPE = re.compile(r"\.(?!v\d)[a-z][a-z0-9]*")  # what a suffix looks like, in lower case; no version


class Modality(ABC):
    """What a datum is. `raectl.registry` knows it by its name.

    Arguments:
        options: those in force for the data, by their names in `raectl.data.DataOptions`.

    Attributes:
        measures: registry names of the metrics that compare an item with its reconstruction.
        extractors: registry names of the extractors of features in which sets of items are compared, the best first.
        suffixes: suffixes of the files that items can be written to, in lower case.
        picture_suffixes: those of them that are a page for a person to look at.
        writes_directories: whether items can also be written to a directory, a file each.
        is_drawn: whether what a decoder gives is a distribution, from which `mode` draws items.
    """

    metrics: tuple[str, ...]
    extractors: tuple[str, ...]
    suffixes: tuple[str, ...]
    picture_suffixes: tuple[str, ...]
    writes_directories: bool
    is_drawn: bool = False

    def __init__(self, **options: Any) -> None:
        self.options = options

    @abstractmethod
    def default_architecture(self, item_shape: tuple[int, ...]) -> str:
        """Registry name of the encoder and decoder pair to use where none is asked for."""

    @abstractmethod
    def default_latent_dim(self, item_shape: tuple[int, ...]) -> int:
        """Number of latent dimensions to use where none is asked for."""

    def default_betas(self, latent_dim: int) -> Mapping[str, float]:
        """beta's default by model, where it is not the model's own: from d, in units of the reconstruction term."""
        return {}

    def data_dim(self, item_shape: tuple[int, ...]) -> int:
        """D, the number of values that the reconstruction term sums over, with which default weights grow."""
        return math.prod(item_shape)

    @abstractmethod
    def item_shape(self, stored: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of one item as the networks see it, from its shape as stored."""

    @abstractmethod
    def to_tensor(self, items: torch.Tensor) -> torch.Tensor:
        """Bytes as the networks see them: (B, *stored) uint8 => (B, *item_shape) float32, on the same device."""

    @abstractmethod
    def to_items(self, x_hat: torch.Tensor) -> np.ndarray:
        """What a decoder gave, as the nearest bytes: (B, *item_shape) on any device => (B, *stored) uint8, contiguous.

        The inverse of `to_tensor` on everything that `to_tensor` returns.
        """

    def mode(
        self, x_hat: torch.Tensor, draws: int, generator: torch.Generator, is_valid: Callable[[Any], bool]
    ) -> np.ndarray:
        """The most frequent valid item of some draws from what a decoder gave for one latent, where `is_drawn`.

        Arguments:
            x_hat: (*item_shape), on the generator's device.
            draws: how many.
            is_valid: whether an item counts, given as `shown` gives it.

        Returns:
            (*stored) uint8; one that `shown` gives nothing for, where no draw is valid.
        """
        raise NotImplementedError(f"{type(self).__name__} is not drawn")

    @abstractmethod
    def reconstruction(self, x: torch.Tensor, x_hat: torch.Tensor) -> torch.Tensor:
        """The objective's reconstruction term: 2 x (B, *item_shape) => (B,) float32."""

    def measured(self, x_hat: torch.Tensor) -> torch.Tensor:
        """What `measures` compare with the originals: the decoder's values, before rounding; (B, *item_shape)."""
        return x_hat

    @property
    def key(self) -> str:
        """Identity of what `shown` makes of the same bytes: another one for data that mean another thing."""
        return ""

    def shown(self, items: np.ndarray) -> np.ndarray:
        """Items as a person sees them, which is what extractors take: (B, *stored) uint8 => (B, ...)."""
        return items

    @abstractmethod
    def write(self, out: Path, batches: Iterable[np.ndarray], total: int, names: Sequence[str] = ()) -> str | None:
        """Write generated items, whole or not at all; what there is to remark on them, or None.

        Arguments:
            out: the file or directory; its suffix chooses the form.
            batches: uint8 arrays (B, *stored), taken one at a time.
            total: number of items in all batches, at least 1.
            names: a name per item, for the files of a directory; numbered where there are none.

        Raises:
            RaectlError: `check_out` refuses `out`, the items are too many for its form, or the disk refuses them.
        """

    @abstractmethod
    def write_pairs(
        self, out: Path, originals: np.ndarray, reconstructions: np.ndarray, names: Sequence[str] = ()
    ) -> None:
        """Write originals beside their reconstructions, whole or not at all: 2 x (N, *stored) uint8.

        A directory gets the reconstructions only, named after their originals. Raises as `write` does.
        """

    @abstractmethod
    def write_walks(self, out: Path, walks: np.ndarray) -> None:
        """Write walks from one item to another, whole or not at all: (P, S, *stored) uint8.

        A directory gets a file a step. Raises as `write` does.
        """

    @abstractmethod
    def write_rows(self, out: Path, labels: Sequence[str], rows: Sequence[np.ndarray]) -> None:
        """Write rows of items, each with what it shows, whole or not at all: R x (N, *stored) uint8.

        Raises as `write` does; only a picture can hold rows.
        """

    @abstractmethod
    def write_picture(self, out: Path, pairs: tuple[np.ndarray, np.ndarray], samples: np.ndarray | None) -> Path:
        """Write the progress of a training run for a person to look at.

        Arguments:
            out: the file to write; its suffix is replaced by the one that the modality's pictures have.
            pairs: originals and their reconstructions, 2 x (N, *stored) uint8.
            samples: generated items, (M, *stored) uint8, or None.

        Returns:
            The path written.
        """

    def is_picture(self, out: Path) -> bool:
        """Whether `out` is one page for a person to look at, which holds some items only."""
        return out.suffix.lower() in self.picture_suffixes

    def check_out(self, out: Path) -> None:
        """Raise, before any work is done, unless items can be written to `out`.

        A name with a suffix is a file, one without a directory. A file that exists will be replaced; a directory only
        if it is empty.

        Raises:
            UsageError: items cannot be written to a file of that type.
            RaectlError: the parent directory is missing, or something else is where `out` would be.
        """
        if out.name in ("", "..") or (self._names_file(out) and out.suffix.lower() not in self.suffixes):
            supported = ", ".join(self.suffixes)
            directory = "; a name without a suffix becomes a directory" if self.writes_directories else ""
            raise UsageError(f"cannot write items to {str(out)!r}", f"supported: {supported}{directory}")
        require_parent(out)
        if self._names_file(out):
            if out.is_dir():
                raise RaectlError(f"{out} is a directory, not a {out.suffix} file", "choose another name")
        elif out.is_dir():
            if any(out.iterdir()):
                raise RaectlError(f"the directory {out} is not empty", "choose another name, or empty it first")
        elif out.exists():
            raise RaectlError(f"{out} is a file, not a directory", f"choose another name, or add {self.suffixes[0]}")

    def _names_file(self, out: Path) -> bool:
        """Whether `out` is meant as a file: its name has what looks like a suffix, and no directory has this name."""
        suffix = out.suffix.lower()
        looks = _FILE_TYPE.fullmatch(suffix) is not None and not out.is_dir()
        return suffix in self.suffixes or looks or not self.writes_directories


def modality_of(name: str, options: DataOptions | None = None) -> Modality:
    """The modality registered under a name, for data opened with these options.

    Raises:
        RaectlError: the options lack what the modality needs.
    """
    modality: Modality = registry.resolve("modality", name)(**asdict(options or DataOptions()))
    return modality


def gather(batches: Iterable[np.ndarray], total: int) -> np.ndarray:
    """All items of all batches in one array: iterable of (B, *stored) uint8 => (total, *stored).

    Raises:
        ValueError: the batches hold more or fewer than `total` items.
    """
    items: np.ndarray | None = None
    done = 0
    for batch in batches:
        if items is None:
            items = np.empty((total, *batch.shape[1:]), np.uint8)
        if done + len(batch) > total:
            raise ValueError(f"more than {total} items")
        items[done : done + len(batch)] = batch
        done += len(batch)
    if items is None or done != total:
        raise ValueError(f"{done} items instead of {total}")
    return items
