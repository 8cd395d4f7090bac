"""The interface of a modality, which alone depends on the kind of data: images, strings.

Items are stored as (N, *stored_shape), uint8 or, as images may be, uint16. A modality converts them to the networks'
`x: (B, *item_shape)` float32 and back, compares them and writes them to files.
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from raectl import registry
from raectl.data import DataOptions
from raectl.errors import RaectlError, UsageError
from raectl.storage.atomic import require_parent

_FILE_TYPE = re.compile(r"\.(?!v\d)[a-z][a-z0-9]*")  # a suffix in lower case, but no version such as .v2


class Modality(ABC):
    """A kind of data. `options` are the resolved ones of the data, by their names in `raectl.data.DataOptions`."""

    # Registry names of the reconstruction terms that its items can take, the default first.
    reconstructions: tuple[str, ...]
    metrics: tuple[str, ...]  # registry names of the metrics that compare an item with its reconstruction
    # Registry names of the feature extractors for comparing sets of items, the default first.
    extractors: tuple[str, ...]
    # Set metrics by extractor, registry names, that are measured whatever extractor is chosen.
    always_measured: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    noun: str = "item"  # one of its items, in tables: `image`
    values: str = "values"  # what an item consists of
    writer: "Writer"  # writes items to files
    can_be_sharpened: bool = False  # whether a critic of images can judge the items
    can_be_augmented: bool = False  # whether an item that is mirrored, moved or tinted is an item still
    is_drawn: bool = False  # whether the decoder's output is a distribution, from which `mode` draws items

    def __init__(self, **options: Any) -> None:
        self.options = options

    @abstractmethod
    def default_architecture(self, item_shape: tuple[int, ...]) -> str:
        """Registry name of the default encoder and decoder pair."""

    @abstractmethod
    def default_latent_dim(self, item_shape: tuple[int, ...]) -> int:
        """Default number of latent dimensions."""

    def default_betas(self, latent_dim: int) -> Mapping[str, float]:
        """Defaults of beta by model, in units of the reconstruction term; the model's own default for other models."""
        return {}

    def data_dim(self, item_shape: tuple[int, ...]) -> int:
        """D, the number of values that the reconstruction term sums over; default weights are proportional to it."""
        return math.prod(item_shape)

    @abstractmethod
    def item_shape(self, stored: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of an item's tensor, from its stored shape."""

    @abstractmethod
    def to_tensor(self, items: torch.Tensor) -> torch.Tensor:
        """(B, *stored) => (B, *item_shape) float32, on the same device."""

    @abstractmethod
    def to_items(self, x_hat: torch.Tensor) -> np.ndarray:
        """Decoded items: (B, *item_shape) on any device => (B, *stored), contiguous. Inverts `to_tensor`."""

    def mode(
        self, x_hat: torch.Tensor, draws: int, generator: torch.Generator, is_valid: Callable[[Any], bool]
    ) -> np.ndarray:
        """The most frequent valid item of some draws from the decoder's distribution for one latent, if `is_drawn`.

        Arguments:
            x_hat: the decoder's output (*item_shape), on the generator's device.
            is_valid: whether an item, as `shown` returns it, is valid.

        Returns:
            (*stored) uint8; without a valid draw, an item for which `shown` is empty.
        """
        raise NotImplementedError(f"{type(self).__name__} has no distribution to draw from")

    def measured(self, x_hat: torch.Tensor) -> torch.Tensor:
        """The values that `metrics` compare with the originals: the decoder's, before rounding; (B, *item_shape)."""
        return x_hat

    def deviation(self, x: torch.Tensor, x_hat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """How far decoded items are from the originals, and what to compare that with.

        2 x (B, *item_shape) => 2 x (B,). By default the squared error, and the item's energy: the sum of squared
        deviations of its values from their mean, channel by channel where it has channels. So neither its size nor a
        background that is black or white counts; a constant image has none.
        """
        values = x.flatten(2) if x.ndim > 2 else x
        energy = (values - values.mean(dim=-1, keepdim=True)).square().flatten(1).sum(dim=1)
        return (x - x_hat).square().flatten(1).sum(dim=1), energy

    def heat(self, x: torch.Tensor, x_hat: torch.Tensor) -> torch.Tensor | None:
        """Where decoded items are far from the originals: 2 x (B, *item_shape) => (B, H, W); None for no images."""
        return None

    def with_heat(self, items: np.ndarray, heat: np.ndarray, hottest: float) -> np.ndarray:
        """Items with their heat drawn over them: (B, *stored) and (B, H, W) => (B, H, W, 3) uint8.

        Arguments:
            hottest: the heat that has the strongest colour.
        """
        raise NotImplementedError(f"{type(self).__name__} has no heat maps")

    def labels(self, items: np.ndarray) -> list[str] | None:
        """What items without names of their own are called in a table; None for numbers."""
        return None

    @property
    def key(self) -> str:
        """Cache key of `shown`: different for data whose equal bytes stand for different items."""
        return ""

    def shown(self, items: np.ndarray) -> np.ndarray:
        """The items themselves, such as strings, for extractors and people: (B, *stored) => (B, ...)."""
        return items

    def from_source(self, items: np.ndarray) -> np.ndarray:
        """Items as stored, from items of another type, such as the source's own; others are returned themselves."""
        return items

    def to_source(self, items: np.ndarray, dtype: np.dtype | None = None) -> np.ndarray:
        """Items of another type, by default of the source's own and in its units: (N, *stored) => (N, ...)."""
        return items

    @property
    def picture_writer(self) -> "Writer":
        """Writes what `pictured` and `with_heat` give."""
        return self.writer

    def pictured(self, items: np.ndarray) -> np.ndarray:
        """Items as `picture_writer` takes them, beside those of `with_heat`: (B, *stored) => (B, ...)."""
        return items


class Writer(ABC):
    """Writes items to files, whole or not at all."""

    suffixes: tuple[str, ...]  # suffixes of the files that items can be written to, in lower case
    picture_suffixes: tuple[str, ...] = ()  # those of them that are pictures of some items, to look at
    writes_directories: bool = False  # whether items can also be written to a directory, a file each

    @abstractmethod
    def write(
        self,
        out: Path,
        batches: Iterable[np.ndarray],
        total: int,
        names: Sequence[str] = (),
        labels: Sequence[str] = (),
    ) -> str | None:
        """Write generated items atomically; returns a remark on them, or None.

        Arguments:
            out: the file or directory; its suffix determines the format.
            batches: arrays (B, *stored), read one at a time.
            total: number of items in all batches, at least 1.
            names: of the items, after which the files of a directory are called; numbers if there are none.
            labels: the class of each item, if they have one: kept where the format can.

        Raises:
            RaectlError: `check_out` refuses `out`, the items are too many for the format, or the write fails.
        """

    @abstractmethod
    def write_pairs(
        self, out: Path, originals: np.ndarray, reconstructions: np.ndarray, names: Sequence[str] = ()
    ) -> None:
        """Write originals beside their reconstructions, 2 x (N, *stored). Atomic and raises as `write`.

        A directory gets the reconstructions only, with the names of their originals; numbers if there are none.
        """

    @abstractmethod
    def write_walks(self, out: Path, walks: np.ndarray) -> None:
        """Write P interpolations of S steps, (P, S, *stored); to a directory, a file per step. See `write`."""

    @abstractmethod
    def write_rows(self, out: Path, labels: Sequence[str], rows: Sequence[np.ndarray]) -> str | None:
        """Write R labelled rows of items, R x (N, *stored), to a picture. Atomic, returns and raises as `write`."""

    @abstractmethod
    def write_picture(self, out: Path, pairs: tuple[np.ndarray, np.ndarray], samples: np.ndarray | None) -> Path:
        """Write a picture of a training run's progress; returns its path, which is `out` with another suffix.

        Arguments:
            pairs: originals and their reconstructions, 2 x (N, *stored).
            samples: generated items, (M, *stored), or None.
        """

    def has_rows(self, out: Path) -> bool:
        """Whether `write_rows` can write to `out`."""
        return self.is_picture(out) if self.picture_suffixes else True

    def is_picture(self, out: Path) -> bool:
        """Whether `out` is a picture of some items, to look at."""
        return out.suffix.lower() in self.picture_suffixes

    def check_out(self, out: Path) -> None:
        """Raise unless items can be written to `out`: to a file, or to a directory if the name has no suffix.

        An existing file will be replaced; a directory must be empty.

        Raises:
            UsageError: items cannot be written to a file of that type.
            RaectlError: the parent directory is missing, or `out` is of another type or not empty.
        """
        if out.name in ("", "..") or (self._names_file(out) and out.suffix.lower() not in self.suffixes):
            supported = ", ".join(self.suffixes)
            directory = (
                "; a name without a suffix, or of an empty directory, becomes a directory"
                if self.writes_directories
                else ""
            )
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

    def check_rows(self, out: Path) -> None:
        """Raise unless labelled rows of items can be written to `out`; as `check_out`."""
        if not self.has_rows(out):
            supported = ", ".join(self.picture_suffixes)
            raise UsageError(f"cannot write a picture to {str(out)!r}", f"supported: {supported}")
        self.check_out(out)

    def _names_file(self, out: Path) -> bool:
        """Whether `out` is meant as a file: its name seems to have a suffix, and no directory has this name."""
        suffix = out.suffix.lower()
        seems = _FILE_TYPE.fullmatch(suffix) is not None and not out.is_dir()
        return suffix in self.suffixes or seems or not self.writes_directories


def modality_of(name: str, options: DataOptions | None = None) -> Modality:
    """The modality of a registry name, for data opened with these options; a `RaectlError` if one is missing."""
    modality: Modality = registry.resolve("modality", name)(**asdict(options or DataOptions()))
    return modality


def gather(batches: Iterable[np.ndarray], total: int) -> np.ndarray:
    """All batches in one array of their type: iterable of (B, ...) => (total, ...); a `ValueError` if they are not."""
    rows: np.ndarray | None = None
    done = 0
    for batch in batches:
        rows = np.empty((total, *batch.shape[1:]), batch.dtype) if rows is None else rows
        rows[done : done + len(batch)] = batch[: max(0, total - done)]
        done += len(batch)
    if rows is None or done != total:
        raise ValueError(f"{done} items instead of {total}")
    return rows
