"""Images in one array: used without a copy if type and shape are right, else converted in blocks."""

from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from raectl.data import limits
from raectl.data.dataset import Dataset
from raectl.data.images import decode
from raectl.data.images.parallel import in_threads
from raectl.data.journal import Block
from raectl.data.options import DataOptions
from raectl.data.packing import PackingTask, in_memory, packed
from raectl.errors import RaectlError
from raectl.progress import Progress
from raectl.storage.arrays import file_digest
from raectl.storage.cache import file_state

_BLOCK = 4 * 2**20  # bytes converted at a time


@dataclass(frozen=True)
class ImageArray:
    """An array of images of one size, before conversion."""

    images: np.ndarray  # (N, H, W, C) with C 1, 3 or 4, uint8 or floats in [0, 1]
    source: str  # as `open_dataset` accepts it
    file: Path | None = None  # that the images were read from; their conversion is cached if it is given
    labels: np.ndarray | None = None  # (N,) index into `classes`
    classes: tuple[str, ...] = ()


def open_image_array(array: ImageArray, options: DataOptions, background: str, progress: Progress) -> Dataset:
    """A dataset of the images of an array.

    Raises:
        RaectlError: the array is empty, of another type, or has floats outside 0 to 1.
    """
    images, source, file = array.images, array.source, array.file
    if 0 in images.shape:
        raise RaectlError(f"{limits.shown(source)} holds no images: its shape is {images.shape}")
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        hint = "convert it with .astype(np.uint8), for values 0 to 255"
        raise RaectlError(f"{limits.shown(source)} is of type {images.dtype}, not uint8 or float", hint)
    count, height, width, depth = images.shape
    resolved, notes = limits.resolve(options, {(width, height)}, depth == 1, background)
    dataset = Dataset(images, "images", source, resolved, labels=array.labels, classes=array.classes, notes=notes)
    shape = limits.item_shape(resolved)
    if images.dtype == np.uint8 and images.shape[1:] == shape:
        return dataset

    def task() -> PackingTask:
        convert = partial(_blocks, array, resolved, progress)
        return PackingTask(source, file_digest(file) if file else "", resolved, shape, count, convert)

    result = packed(file_state(file), resolved, task) if file else in_memory(task())
    notes += result.notes
    return replace(dataset, items=result.items, known_fingerprint=result.known_fingerprint, notes=notes)


def _blocks(array: ImageArray, options: DataOptions, progress: Progress, first: int) -> Generator[Block, None, None]:
    """The converted images, from number `first` on, in blocks."""
    images = array.images
    rows = max(1, _BLOCK // images[0].nbytes)
    starts = range(first, len(images), rows)

    def convert(start: int) -> np.ndarray:
        return decode.block(_bytes(images[start : start + rows], array.source), options)

    for start, block in zip(starts, in_threads(convert, starts), strict=True):
        yield Block(block)
        progress.update("converting images", start + len(block), len(images))


def _bytes(values: np.ndarray, source: str) -> np.ndarray:
    """uint8 unchanged; floats in [0, 1] scaled to 0 to 255 and rounded."""
    if values.dtype == np.uint8:
        return values
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= 1):  # NaN fails too
        hint = "scale the values to 0 to 1, or store them as uint8 from 0 to 255"
        raise RaectlError(f"{limits.shown(source)} holds floats from {low:g} to {high:g}, not from 0 to 1", hint)
    return np.rint(values.astype(np.float32) * 255).astype(np.uint8)
