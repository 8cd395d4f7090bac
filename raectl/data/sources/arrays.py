"""NumPy arrays of images, in `.npy` and `.npz` files or in memory; pickles are refused."""

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from raectl.config import MOST_CHANNELS
from raectl.data import limits
from raectl.data.base import Source
from raectl.data.dataset import Dataset
from raectl.data.images.array import ImageArray, open_image_array
from raectl.data.labels import from_array
from raectl.data.options import DataOptions
from raectl.errors import RaectlError
from raectl.progress import Progress

IN_MEMORY = "array in memory"  # source name of an array that is not in a file
_USUAL = (1, 3, 4)  # numbers of channels that say where these are
_LABELS = "labels"  # name of the array of labels beside that of images


class Array(Source):
    """(N, H, W), (N, H, W, C) or (N, C, H, W). A `.npy` is memory-mapped."""

    @classmethod
    def recognises(cls, spec: str) -> bool:
        return limits.suffix(spec) in (".npy", ".npz") and Path(spec).is_file()

    def open(self, spec: str, options: DataOptions, progress: Progress) -> Dataset:
        path = limits.absolute(spec)
        loaded, labels = _load(path)
        images, notes = channels_last(loaded, str(path)), notes_on_axes(loaded.shape)
        known = None if labels is None else from_array(labels, len(images), limits.shown(str(path)))
        labels, classes = known or (None, ())
        array = ImageArray(images, str(path), path, labels, classes, notes)
        return open_image_array(array, options, self.background, progress)

    def open_array(self, array: np.ndarray, options: DataOptions, progress: Progress) -> Dataset:
        """A dataset of an array in memory."""
        images, notes = channels_last(array, IN_MEMORY), notes_on_axes(array.shape)
        return open_image_array(ImageArray(images, IN_MEMORY, notes=notes), options, self.background, progress)


def _load(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """The images of a file, and their labels if it has an array `labels`."""
    where = limits.shown(str(path))
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded, None
        with loaded:
            names = [name for name in loaded.files if name != _LABELS]
            if "images" not in names and len(names) != 1:
                listed = ", ".join(map(limits.shown, names[:10])) or "nothing"
                hint = f"np.save('images.npy', np.load({str(path)!r})[{(names or ['NAME'])[0]!r}]) makes a file of one"
                raise RaectlError(f"{where} has no array `images`: it holds {listed}", hint if names else None)
            with zipfile.ZipFile(path) as archive:
                limits.refuse_bomb(path, max(info.file_size for info in archive.infolist()))
            array: np.ndarray = loaded["images" if "images" in names else names[0]]
            return array, _labels(loaded, where) if _LABELS in loaded.files else None
    except RaectlError:
        raise
    except Exception as error:  # NumPy raises nearly anything on a damaged file
        if "pickle" in str(error) or "Python objects" in str(error):
            message = f"{where} holds Python objects, which are refused, or is not an array file"
            raise RaectlError(message, "save a plain array of numbers") from error
        raise RaectlError(f"cannot read {where}: {error}", "it is damaged, or not an array file") from error


def _labels(loaded: Any, where: str) -> np.ndarray:
    try:
        labels: np.ndarray = loaded[_LABELS]
        return labels
    except ValueError as error:
        message = f"{where}: its labels are Python objects, which are refused"
        raise RaectlError(message, "labels=y.astype(str), or astype(int), before numpy.savez") from error


def channels_last(array: np.ndarray, source: str) -> np.ndarray:
    """A view of shape (N, H, W, C) of an array of images.

    Of four axes, one of 1, 3 or 4 is that of the channels, the last one before the second; of other numbers the one
    that is smaller than both sides of the images, or else beside two that are equal.

    Raises:
        RaectlError: it has another shape, or the channels may be on either axis.
    """
    if array.ndim == 3 and array.shape[2] not in (3, 4):  # (H, W, 3 | 4) is a single colour image
        return array[..., None]
    axis = _channel_axis(array.shape) if array.ndim == 4 else None
    if axis is None:
        message = f"{limits.shown(source)} has shape {array.shape}; images are N H W, N H W C or N C H W"
        more = f" with 1 to {MOST_CHANNELS} channels, fewer than rows and columns" if array.ndim == 4 else ""
        raise RaectlError(message + more, _remedy(array.shape))
    return np.moveaxis(array, axis, 3)


def notes_on_axes(shape: tuple[int, ...]) -> tuple[str, ...]:
    """A note on the axis that was taken for that of the channels, if these are not 1, 3 or 4."""
    axis = _channel_axis(shape) if len(shape) == 4 else None
    if axis is None or shape[axis] in _USUAL:
        return ()
    if axis == 3:
        return (f"of {shape} the last axis was taken for that of {shape[3]} channels",)
    remedy = "if these are images of one channel: x.reshape(-1, *x.shape[2:])"
    return (f"of {shape} the second axis was taken for that of {shape[1]} channels; {remedy}",)


def _channel_axis(shape: tuple[int, ...]) -> int | None:
    """Which axis of (N, ...) has the channels, 3 or 1; None if neither or both may have."""
    _, second, third, last = shape
    for axis in (3, 1):
        if shape[axis] in _USUAL:
            return axis
    is_last, is_second = last < min(second, third), second < min(third, last)
    if not is_last and not is_second:  # more channels than rows: square images tell
        is_last, is_second = second == third, third == last
    if is_last == is_second:
        return None
    axis = 3 if is_last else 1
    return axis if shape[axis] <= MOST_CHANNELS else None


def _remedy(shape: tuple[int, ...]) -> str | None:
    """What may make images of an array of another shape x."""
    if len(shape) == 2:
        side = math.isqrt(shape[1])
        is_row = side * side == shape[1] and limits.SIZE.holds(side)
        return f"if each row is an image: x.reshape(-1, {side}, {side})" if is_row else "one image: x[None]"
    if len(shape) == 3:
        return "one image in colour: x[None]; grey ones of this width are too small"
    if len(shape) != 4:
        return None
    if shape[2] in _USUAL:
        return "if the last axis numbers the images: np.moveaxis(x, -1, 0)"
    if min(shape[1], shape[3]) > MOST_CHANNELS:
        return f"{MOST_CHANNELS} of the channels, if they are last: x[..., :{MOST_CHANNELS}]"
    return "of images without channels, one by one: x.reshape(-1, *x.shape[2:])"
