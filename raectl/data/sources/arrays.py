"""NumPy arrays of images, in `.npy` and `.npz` files or in memory; pickles are refused."""

import math
import zipfile
from pathlib import Path

import numpy as np

from raectl.data import limits
from raectl.data.base import Source
from raectl.data.dataset import Dataset
from raectl.data.images.array import ImageArray, open_image_array
from raectl.data.images.labels import from_array
from raectl.data.options import DataOptions
from raectl.errors import RaectlError
from raectl.progress import Progress

IN_MEMORY = "array in memory"  # source name of an array that is not in a file
_CHANNELS = (1, 3, 4)
_LABELS = "labels"  # name of the array of labels beside that of images


class Array(Source):
    """(N, H, W), (N, H, W, C) or (N, C, H, W) with C 1, 3 or, with alpha, 4. A `.npy` is memory-mapped."""

    @classmethod
    def recognises(cls, spec: str) -> bool:
        return limits.suffix(spec) in (".npy", ".npz") and Path(spec).is_file()

    def open(self, spec: str, options: DataOptions, progress: Progress) -> Dataset:
        path = limits.absolute(spec)
        array, labels = _load(path)
        images = channels_last(array, str(path))
        known = (None, ()) if labels is None else from_array(labels, len(images), limits.shown(str(path)))
        return open_image_array(ImageArray(images, str(path), path, *known), options, self.background, progress)

    def open_array(self, array: np.ndarray, options: DataOptions, progress: Progress) -> Dataset:
        """A dataset of an array in memory."""
        images = channels_last(array, IN_MEMORY)
        return open_image_array(ImageArray(images, IN_MEMORY), options, self.background, progress)


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
            return array, loaded[_LABELS] if _LABELS in loaded.files else None
    except RaectlError:
        raise
    except Exception as error:  # NumPy raises nearly anything on a damaged file
        if "pickle" in str(error) or "Python objects" in str(error):
            message = f"{where} holds Python objects, which are refused, or is not an array file"
            raise RaectlError(message, "save a plain array of numbers") from error
        raise RaectlError(f"cannot read {where}: {error}", "it is damaged, or not an array file") from error


def channels_last(array: np.ndarray, source: str) -> np.ndarray:
    """A view of shape (N, H, W, C) of an array of images.

    Raises:
        RaectlError: it has another shape.
    """
    if array.ndim == 3 and array.shape[2] not in (3, 4):  # (H, W, 3 | 4) is a single colour image
        return array[..., None]
    if array.ndim == 4 and array.shape[3] in _CHANNELS:
        return array
    if array.ndim == 4 and array.shape[1] in _CHANNELS:
        return np.moveaxis(array, 1, 3)
    raise RaectlError(
        f"{limits.shown(source)} has shape {array.shape}; images are N H W, N H W C or N C H W with 1, 3 or 4 channels",
        _remedy(array.shape),
    )


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
    if shape[2] in _CHANNELS:
        return "if the last axis numbers the images: np.moveaxis(x, -1, 0)"
    if shape[3] <= min(shape[1:3]):
        return "one channel of them: x[..., :1]" if shape[3] == 2 else "three of the channels: x[..., [0, 1, 2]]"
    if shape[1] <= min(shape[2:]):
        return "one channel of them: x[:, :1]" if shape[1] == 2 else "three of the channels: x[:, [0, 1, 2]]"
    return None
