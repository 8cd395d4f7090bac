"""Images that come as one array of equal ones: used as they are if their form is right, else converted in blocks."""

from collections.abc import Generator
from dataclasses import dataclass
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
from raectl.storage.cache import digest

_BLOCK = 4 * 2**20  # bytes converted at a time


@dataclass(frozen=True)
class ImageArray:
    """Equal images, before they are converted.

    Arguments:
        images: (N, H, W, C) with C 1, 3 or 4, uint8 0 to 255 or floats 0 to 1.
        source: as `open_dataset` takes it.
        file: where the images were read from, so that a conversion can be kept in the cache; None keeps it in memory.
        labels: (N,) index into `classes`, or None.
    """

    images: np.ndarray
    source: str
    file: Path | None = None
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()


def open_image_array(stack: ImageArray, options: DataOptions, background: str, progress: Progress) -> Dataset:
    """The images of a stack, without a copy if they are bytes of the right shape.

    Raises:
        RaectlError: the array is empty, of another type, or its floats are not from 0 to 1.
    """
    images, source, file = stack.images, stack.source, stack.file
    if 0 in images.shape:
        raise RaectlError(f"{limits.shown(source)} holds no images: its shape is {images.shape}")
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        hint = "convert it with .astype(np.uint8), for values 0 to 255"
        raise RaectlError(f"{limits.shown(source)} is of type {images.dtype}, not uint8 or float", hint)
    count, height, width, depth = images.shape
    resolved, notes = limits.resolve(options, {(width, height)}, depth == 1, background)
    known = None
    if images.dtype != np.uint8 or images.shape[1:] != limits.item_shape(resolved):

        def task() -> PackingTask:
            content = file_digest(file) if file else ""
            shape = limits.item_shape(resolved)
            return PackingTask(
                source, content, resolved, shape, count, lambda first: _blocks(stack, resolved, first, progress)
            )

        result = packed(_state(file), resolved, task) if file else in_memory(task())
        images, known, notes = result.items, result.known_fingerprint, notes + result.notes
    return Dataset(
        items=images,
        modality="images",
        source=source,
        options=resolved,
        labels=stack.labels,
        classes=stack.classes,
        notes=notes,
        known_fingerprint=known,
    )


def _state(file: Path) -> str:
    found = file.stat()
    return digest(str(file), found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _blocks(stack: ImageArray, options: DataOptions, first: int, progress: Progress) -> Generator[Block, None, None]:
    images = stack.images
    rows = max(1, _BLOCK // images[0].nbytes)
    starts = range(first, len(images), rows)

    def converted(start: int) -> np.ndarray:
        return decode.block(_bytes(images[start : start + rows], stack.source), options)

    for start, block in zip(starts, in_threads(converted, starts), strict=True):
        yield Block(block)
        progress.update("converting images", start + len(block), len(images))


def _bytes(values: np.ndarray, source: str) -> np.ndarray:
    """uint8 as it is, floats from 0 to 1 as the nearest of 0 to 255."""
    if values.dtype == np.uint8:
        return values
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= 1):  # NaN fails too
        hint = "scale the values to 0 to 1, or store them as uint8 from 0 to 255"
        raise RaectlError(f"{limits.shown(source)} holds floats from {low:g} to {high:g}, not from 0 to 1", hint)
    return np.rint(values.astype(np.float32) * 255).astype(np.uint8)
