"""MNIST's IDX files, gzipped or not: a file of images, or a folder, whose training images are used."""

import gzip
import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from raectl.data import limits
from raectl.data.base import Source
from raectl.data.dataset import Dataset
from raectl.data.images.array import ImageArray, open_image_array
from raectl.data.options import DataOptions
from raectl.errors import RaectlError
from raectl.progress import Progress

_MAGIC = {1: b"\x00\x00\x08\x01", 3: b"\x00\x00\x08\x03"}  # bytes, in 1 dimension (labels) or 3 (images)
_LARGEST_RATIO = 1032  # the largest compression ratio of deflate


class IDX(Source):
    """Images, (count, rows, columns) uint8 after a header, with labels if their file lies in the same folder."""

    background = "black"

    @classmethod
    def recognises(cls, spec: str) -> bool:
        if Path(spec).is_dir():
            return bool(_images_in(Path(spec)))
        path = Path(spec)
        return path.is_file() and (_is_idx_name(path.name) or _magic(path) in _MAGIC.values())

    def open(self, spec: str, options: DataOptions, progress: Progress) -> Dataset:
        path = limits.absolute(spec)
        source = str(path)
        if path.is_dir():
            path = _training_images(path)
        images = _read(path, 3)[..., None]
        labels = _labels(path, len(images))
        classes = tuple(str(label) for label in range(int(labels.max()) + 1)) if labels is not None else ()
        return open_image_array(ImageArray(images, source, path, labels, classes), options, self.background, progress)


def _is_idx_name(name: str, dimensions: str = "13") -> bool:
    name = name.removesuffix(".gz")
    return any(name.endswith(f"idx{d}-ubyte") for d in dimensions)


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
            path.name for path in folder.iterdir() if _is_idx_name(path.name, "3") and not limits.is_litter(path.name)
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
    name = stem.replace("images", "labels").replace("idx3", "idx1")
    for path in (images.with_name(name), images.with_name(f"{name}.gz")):
        if name != stem and path.is_file():
            labels = _read(path, 1).astype(np.int64)
            if len(labels) != count:
                message = f"{limits.shown(str(path))} holds {len(labels)} labels for {count} images"
                raise RaectlError(message, "the two files do not belong together")
            return labels
    return None


def _read(path: Path, dimensions: int) -> np.ndarray:
    """The array in an IDX file; memory-mapped if it is not compressed.

    Raises:
        RaectlError: it is not an IDX file, or its length does not match its header, which is checked before allocation.
    """
    where = limits.shown(str(path))
    header_size = 4 + 4 * dimensions
    try:
        with _opened(path) as file:
            header = file.read(header_size)
            if len(header) < header_size or header[:4] != _MAGIC[dimensions]:
                what = "images" if dimensions == 3 else "labels"
                raise RaectlError(f"{where} is not an IDX file of {what}", "its first bytes are not those of one")
            shape = struct.unpack(f">{dimensions}I", header[4:])
            expected, size = math.prod(shape), path.stat().st_size
            if isinstance(file, gzip.GzipFile):
                limits.refuse_bomb(path, expected if expected <= size * _LARGEST_RATIO else 0)
                data = file.read(expected + 1) if expected <= size * _LARGEST_RATIO else b""
                if len(data) == expected:
                    return np.frombuffer(data, np.uint8).reshape(shape)
            elif size == header_size + expected and expected:
                return np.memmap(path, np.uint8, "r", header_size, shape)
    except (OSError, EOFError, zlib.error) as error:
        raise RaectlError(f"cannot read {where}: {error}", "the file is cut short or damaged") from error
    says = f"its header says {shape}"
    if not expected:
        raise RaectlError(f"{where} is empty: {says}")
    raise RaectlError(f"{where} is damaged: {says}, which does not match its length", "download it again")
