"""What a checkpoint directory holds, read and checked: the model's configuration and data, and its weights."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from raectl.checkpoint import sharpened
from raectl.checkpoint.directory import ConfigRecord, Directory
from raectl.checkpoint.sharpened import PLAIN, Sharpened
from raectl.config import Config
from raectl.data import limits
from raectl.errors import RaectlError
from raectl.modalities.base import modality_of
from raectl.model.build import build, build_sharp_decoder
from raectl.model.reconstructions import for_modality
from raectl.model.weights import module_layout
from raectl.storage.arrays import Arrays
from raectl.storage.records import RESTORE

T = TypeVar("T")


@dataclass(frozen=True)
class Contents:
    """What is used of a directory.

    Arguments:
        directory: where it is.
        record: config.json.
        item_shape: of an item as the networks see it.
        arrays, epoch, weights: the weights for use, the epoch they are of, and SHA-256 of their file.
        sharp: the sharpened decoder's arrays, how it was made, and SHA-256 of its file; None where it is not in use.
    """

    directory: Directory
    record: ConfigRecord
    item_shape: tuple[int, ...]
    arrays: Arrays
    epoch: int
    weights: str
    sharp: tuple[Arrays, Sharpened, str] | None

    def showing(self, bands: str | None) -> "Contents":
        """The same, with other channels in pictures; a `UsageError` if the images have none of these numbers."""
        if bands is None:
            return self
        data = self.record.data
        options = replace(data.options, bands=bands)
        limits.check_bands(options, data.source)
        return replace(self, record=replace(self.record, data=replace(data, options=options)))

    @classmethod
    def read(cls, directory: Directory, decoder: str | None = None) -> "Contents":
        """Read a directory, also while a running `train` replaces its files.

        Arguments:
            decoder: `plain` leaves a sharpened one aside.

        Raises:
            RaectlError: the directory is none, damaged, or was written by a newer version.
        """
        return directory.read_consistently(lambda: cls._read(directory, decoder))

    @classmethod
    def _read(cls, directory: Directory, decoder: str | None) -> "Contents":
        record = directory.read_config()
        item_shape, (model, _) = outline(directory, record, build)
        layout = module_layout(model)
        arrays, epoch, weights = directory.read_weights(record, lambda _: layout)
        sharp = None
        if decoder != PLAIN and directory.sharp_decoder.exists():
            sharp_layout = module_layout(outline(directory, record, build_sharp_decoder)[1])
            sharp = sharpened.read(directory, weights, lambda _: sharp_layout)
        return cls(directory, record, item_shape, arrays, epoch, weights, sharp)


def outline(
    directory: Directory, record: ConfigRecord, make: Callable[[Config, tuple[int, ...]], T]
) -> tuple[tuple[int, ...], T]:
    """The shape of an item, and what `make` builds of a stored configuration: modules without memory for their numbers.

    Raises:
        RaectlError: there is no such model, or no such reconstruction term for its items.
    """
    try:
        modality = modality_of(record.data.modality, record.data.options)
        for_modality(record.resolved.reconstruction, modality)
        item_shape = modality.item_shape(record.data.shape)
        with torch.device("meta"):
            return item_shape, make(record.resolved, item_shape)
    except (ValueError, RuntimeError, RaectlError) as error:  # RuntimeError: more numbers than 64 bits can count
        raise RaectlError(f"{directory.config} is damaged: {getattr(error, 'message', error)}", RESTORE) from error
