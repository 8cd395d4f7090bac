"""MNIST's IDX files, gzipped or not: a file of images, or a folder, whose training images are used."""

import gzip
import io
import math
import re
import struct
import zlib
from pathlib import Path

import numpy as np

from raectl.data import limits
from raectl.data.base import Source
from raectl.data.dataset import Dataset
from raectl.data.images.array import ImageArray, open_image_array
from raectl.data.labels import from_array
from raectl.data.options import DataOptions
from raectl.data.sources.arrays import channels_last, notes_on_axes
from raectl.errors import RaectlError
from raectl.progress import Progress

# The magic number is 0, 0, the type and the number of dimensions.
_TYPES = {
    8: ("ubyte", "u1"),
    9: ("byte", "i1"),
    11: ("short", ">i2"),
    12: ("int", ">i4"),
    13: ("float", ">f4"),
    14: ("double", ">f8"),
}
_LABELS, _IMAGES = (1,), (3, 4)  # dimensions: (count,); (count, rows, columns) or (count, rows, columns, channels)
_NAME = re.compile(rf"idx([134])-({'|'.join(name for name, _ in _TYPES.values())})(\.gz)?$")
_LARGEST_RATIO = 1032  # the largest compression ratio of deflate


class IDX(Source):
    """Images, (count, rows, columns[, channels]) after a header, with labels if their file lies in the same folder."""

    background = "black"

    @classmethod
    def recognises(cls, spec: str) -> bool:
        if Path(spec).is_dir():
            return bool(_images_in(Path(spec)))
        path = Path(spec)
        return path.is_file() and (_dimensions(path.name) > 0 or _kind(_magic(path)) is not None)

    def open(self, spec: str, options: DataOptions, progress: Progress) -> Dataset:
        path = limits.absolute(spec)
        source = str(path)
        if path.is_dir():
            path = _training_images(path)
        read = _read(path, _IMAGES)
        images, notes = channels_last(read, source), notes_on_axes(read.shape)
        found = _labels(path, len(images))
        labels, classes = (None, ()) if found is None else from_array(found, len(images), limits.shown(source))
        array = ImageArray(images, source, path, labels, classes, notes)
        return open_image_array(array, options, self.background, progress)


def _dimensions(name: str) -> int:
    """The number of dimensions that a file's name says; 0 if it is no name of an IDX file."""
    found = _NAME.search(name)
    return int(found[1]) if found else 0


def _kind(magic: bytes) -> tuple[np.dtype, int] | None:
    """The type of the values and the number of dimensions; None if these are not the first bytes of an IDX file."""
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES or magic[3] not in (*_LABELS, *_IMAGES):
        return None
    return np.dtype(_TYPES[magic[2]][1]), magic[3]


def _magic(path: Path) -> bytes:
    try:
        with _opened(path) as file:
            return file.read(4)
    except (OSError, EOFError, zlib.error):
        return b""


def _opened(path: Path) -> gzip.GzipFile | io.BufferedReader:
    return gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb")


def _images_in(folder: Path) -> list[Path]:
    try:
        names = {
            path.name
            for path in folder.iterdir()
            if _dimensions(path.name) in _IMAGES and not limits.is_litter(path.name)
        }
    except OSError:
        return []  # the folder source reports the error
    return [folder / name for name in sorted(names) if name.removesuffix(".gz") == name or name[:-3] not in names]


def _training_images(folder: Path) -> Path:
    images = _images_in(folder)
    training = [path for path in images if "train" in path.name] or images
    if len(training) > 1:
        listed = ", ".join(limits.shown(path.name) for path in training[:5])
        raise RaectlError(f"{limits.shown(str(folder))} holds several IDX files of images", f"give one of {listed}")
    return training[0]


def _labels(images: Path, count: int) -> np.ndarray | None:
    """(N,) labels from the file beside a file of images, named after it; None if there is no such file."""
    stem = images.name.removesuffix(".gz")
    name = re.sub(r"idx[34]-\w+$", "idx1-ubyte", stem.replace("images", "labels"))
    for path in (images.with_name(name), images.with_name(f"{name}.gz")):
        if name != stem and path.is_file():
            labels = _read(path, _LABELS).astype(np.int64)
            if len(labels) != count:
                message = f"{limits.shown(str(path))} holds {len(labels)} labels for {count} images"
                raise RaectlError(message, "the two files do not belong together")
            if labels.min() < 0:
                raise RaectlError(f"{limits.shown(str(path))} holds a label below 0", "number the classes from 0")
            return labels
    return None


def _read(path: Path, dimensions: tuple[int, ...]) -> np.ndarray:
    """The array in an IDX file; memory-mapped if it is not compressed.

    Raises:
        RaectlError: it is not an IDX file, or its length does not match its header, which is checked before allocation.
    """
    where = limits.shown(str(path))
    try:
        with _opened(path) as file:
            kind = _kind(file.read(4))
            if kind is None or kind[1] not in dimensions:
                what = "images" if dimensions == _IMAGES else "labels"
                raise RaectlError(f"{where} is not an IDX file of {what}", "its first bytes are not those of one")
            dtype, number = kind
            sides = file.read(4 * number)
            shape = struct.unpack(f">{number}I", sides) if len(sides) == 4 * number else (0,)
            start, expected, size = 4 + len(sides), math.prod(shape) * dtype.itemsize, path.stat().st_size
            if isinstance(file, gzip.GzipFile):
                limits.refuse_bomb(path, expected if expected <= size * _LARGEST_RATIO else 0)
                data = file.read(expected + 1) if expected <= size * _LARGEST_RATIO else b""
                if len(data) == expected and expected:
                    return np.frombuffer(data, dtype).reshape(shape)
            elif size == start + expected and expected:
                return np.memmap(path, dtype, "r", start, shape)
    except (OSError, EOFError, zlib.error) as error:
        raise RaectlError(f"cannot read {where}: {error}", "the file is cut short or damaged") from error
    says = f"its header says {shape}"
    if not expected:
        raise RaectlError(f"{where} is empty: {says}")
    raise RaectlError(f"{where} is damaged: {says}, which does not match its length", "download it again")
