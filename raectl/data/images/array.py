"""Images in one array: used without a copy if type and shape are right, else converted in blocks."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from raectl.config import MOST_CHANNELS
from raectl.data import limits
from raectl.data.dataset import Dataset
from raectl.data.images import stored
from raectl.data.images.parallel import in_threads
from raectl.data.images.wide import opaque
from raectl.data.options import DataOptions
from raectl.data.packing import PackingTask, in_memory, packed
from raectl.data.pieces import Block
from raectl.data.values import (
    BYTES,
    Extremes,
    NotFiniteError,
    Range,
    chosen,
    decide,
    extremes,
    finite,
    greatest_alpha,
    kind_of,
    stored_bits,
    type_of,
)
from raectl.errors import RaectlError
from raectl.progress import Progress
from raectl.storage.arrays import file_digest
from raectl.storage.cache import file_state

_BLOCK = 4 * 2**20  # bytes converted at a time
_FAINT = 0.05  # of what is opaque, below which it is said that alpha is nowhere more


@dataclass(frozen=True)
class ImageArray:
    """An array of images of one size, before conversion."""

    images: np.ndarray  # (N, H, W, C), real numbers
    source: str  # as `open_dataset` accepts it
    file: Path | None = None  # that the images were read from; their conversion is cached if it is given
    labels: np.ndarray | None = None  # (N,) index into `classes`
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # sentences to show the user

    def colours(self, options: DataOptions) -> int:
        """Number of channels, alpha aside, which is the last of four where the options say so."""
        depth: int = self.images.shape[-1]
        return depth - (options.alpha and depth == 4)

    @cached_property
    def alpha(self) -> Range:
        """The values of alpha, the last channel, that are transparent and opaque.

        Raises:
            RaectlError: one is not finite.
        """
        return opaque(self.images.dtype, self.greatest_alpha, lambda: max(float(part.max()) for part in self.parts()))

    @cached_property
    def greatest_alpha(self) -> float:
        """See `alpha`."""
        try:
            return greatest_alpha(part[..., -1] for part in self.parts())
        except NotFiniteError as error:
            raise self.refused(error, self.images.shape[:-1]) from error

    def parts(self) -> Iterator[np.ndarray]:
        """The images, some at a time."""
        rows = max(1, _BLOCK // self.images[0].nbytes)
        return (self.images[start : start + rows] for start in range(0, len(self.images), rows))

    def refused(self, error: NotFiniteError, shape: tuple[int, ...]) -> RaectlError:
        """What is said of values of this shape that are not finite."""
        first = tuple(map(int, np.unravel_index(error.first, shape)))
        return RaectlError(
            f"{limits.shown(self.source)}: {error}, the first at index {first}",
            "np.where(np.isfinite(x), x, 0) has 0 in their place",
        )


def open_image_array(array: ImageArray, options: DataOptions, background: str, progress: Progress) -> Dataset:
    """A dataset of the images of an array.

    Raises:
        RaectlError: the array is empty, not of real numbers, or has values that are not finite.
    """
    images, source, file = array.images, array.source, array.file
    if 0 in images.shape:
        raise RaectlError(f"{limits.shown(source)} holds no images: its shape is {images.shape}")
    if images.dtype.kind not in "biuf":
        raise RaectlError(f"{limits.shown(source)} is of type {images.dtype}: no array of real numbers")
    count, depth = images.shape[0], images.shape[-1]
    if depth > MOST_CHANNELS:
        raise RaectlError(
            f"{limits.shown(source)} has {depth} channels, more than {MOST_CHANNELS}",
            f"keep some of them: np.save('some.npy', x[..., :{MOST_CHANNELS}])",
        )
    _require_channels(array.colours(options), options, source)
    found = {"type": str(images.dtype), "shape": [*images.shape]}
    if images.dtype == np.uint8:
        resolved, notes = _resolved(array, options, background)
        if images.shape[1:] == limits.item_shape(resolved) and not resolved.range and resolved.bits == 8:
            labelled: dict[str, Any] = {"labels": array.labels, "classes": array.classes}
            return Dataset(images, "images", source, resolved, notes=notes, found=found, **labelled)

    def task() -> PackingTask:
        resolved, notes = _resolved(array, options, background)
        convert = partial(_blocks, array, resolved, progress)
        content, shape = file_digest(file) if file else "", limits.item_shape(resolved)
        return PackingTask(source, content, resolved, shape, count, convert, notes=notes, found=found)

    result = packed(file_state(file), options, task, progress) if file else in_memory(task())
    return Dataset(
        result.items,
        "images",
        source,
        result.options,
        labels=array.labels,
        classes=array.classes,
        notes=result.notes,
        found=found,
        known_fingerprint=result.known_fingerprint,
    )


def _resolved(array: ImageArray, options: DataOptions, background: str) -> tuple[DataOptions, tuple[str, ...]]:
    """All options, with notes on how they were chosen; the range of wider values than bytes is that of all of them."""
    images = array.images
    _, height, width, depth = images.shape
    colours = array.colours(options)
    resolved, notes = limits.resolve(options, {(width, height)}, colours, background)
    if options.channels is None:
        notes = (*notes, *array.notes)
        if colours == 4:
            notes += ("4 channels were taken for four, such as RGB and infrared; if the fourth is alpha: --alpha",)
    elif (depth == 1) != (options.channels == 1):
        becomes = "grey" if options.channels == 1 else "colour"
        notes += (f"all {len(images):,} images became {becomes}, as the model takes them",)
    kind = kind_of(images.dtype)
    if colours < depth:
        notes += _of_alpha(array)
    found = {} if kind == BYTES else {kind: _extremes(array, kind, options)}
    ranges, more = decide(found, options.range, has_bytes=kind == BYTES, bits=options.bits)
    bits = stored_bits(ranges, options.bits)
    return replace(resolved, range=ranges, bits=bits, dtype=type_of(found)), (*notes, *more)


def _require_channels(colours: int, options: DataOptions, source: str) -> None:
    """Raise a `RaectlError` if a model takes another number of channels; grey and colour become each other."""
    wanted = options.channels
    if wanted is None or wanted == colours or {colours, wanted} == {1, 3}:
        return
    message = f"{limits.shown(source)} has {colours} channels, and the model takes {wanted}"
    kept = f"np.save('some.npy', x[..., :{wanted}])"
    raise RaectlError(message, f"keep {wanted} of them: {kept}" if wanted < colours else "train a model on these")


def _blocks(array: ImageArray, options: DataOptions, progress: Progress, first: int) -> Generator[Block, None, None]:
    """The converted images, from number `first` on, in blocks."""
    images, colours = array.images, array.colours(options)
    has_alpha = colours < images.shape[-1]
    alpha = array.alpha if has_alpha else None
    rows = max(1, _BLOCK // images[0].nbytes)
    starts = range(first, len(images), rows)

    def convert(start: int) -> np.ndarray:
        values = _scaled(images[start : start + rows], colours, options, alpha)
        return stored.block(values, options, has_alpha=has_alpha)

    for start, block in zip(starts, in_threads(convert, starts), strict=True):
        yield Block(block)
        progress.update("converting images", start + len(block), len(images))


def _scaled(values: np.ndarray, colours: int, options: DataOptions, alpha: Range | None) -> np.ndarray:
    """Values by the range that was decided, as stored; bytes without one, and what is true or false, as bytes."""
    found, bits = chosen(options.range, kind_of(values.dtype)), options.bits or 8
    if found and alpha:  # which has a range of its own
        scaled = found.scaled(values[..., :colours], bits), alpha.scaled(values[..., colours:], bits)
        return np.concatenate(scaled, axis=-1)
    if found:
        return found.scaled(values, bits)
    return values.view(np.uint8) * 255 if values.dtype == bool else values


def _seen(images: np.ndarray, colours: int) -> np.ndarray:
    """The colours of images with alpha, those of what is transparent replaced by one that is not; others as they are.

    What cannot be seen does not decide the range.
    """
    if images.shape[-1] == colours:
        return images
    seen, hidden = images[..., :colours], images[..., colours:] <= 0
    visible = ~hidden[..., 0]
    return np.where(hidden, finite(seen[visible][0]), seen) if visible.any() else finite(seen)


def _extremes(array: ImageArray, kind: str, options: DataOptions) -> Extremes:
    colours = array.colours(options)
    try:
        return extremes((_seen(part, colours) for part in array.parts()), kind)
    except NotFiniteError as error:
        raise array.refused(error, (*array.images.shape[:-1], colours)) from error


def _of_alpha(array: ImageArray) -> tuple[str, ...]:
    """A note on alpha that is opaque nearly nowhere."""
    greatest, top = array.greatest_alpha, array.alpha.high
    if greatest >= _FAINT * top:
        return ()
    return (f"alpha is {greatest:g} at most, and {top:.17g} is opaque: nearly all becomes the background",)
