"""Named arrays in safetensors files, with a digest of their content that is checked on reading."""

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raectl.errors import RaectlError
from raectl.storage.atomic import atomic_file
from raectl.storage.strict_json import open_file, parse_json

if TYPE_CHECKING:
    import numpy as np

_METADATA = "raectl"  # key of the only metadata entry of a safetensors file
_MAX_HEADER = 4 * 2**20  # bytes; raectl's files have a few thousand


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_digest(arrays: "Mapping[str, np.ndarray]", metadata: Mapping[str, str]) -> str:
    """SHA-256 of all names, types, shapes, values and metadata."""
    import numpy as np

    digest = hashlib.sha256()
    for key in sorted(metadata):
        digest.update(f"{key}={metadata[key]}\n".encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}:{array.dtype.str}:{array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)  # makes a scalar array 1-d: the same bytes
    return digest.hexdigest()


def dump_arrays(path: Path, arrays: "Mapping[str, np.ndarray]", metadata: Mapping[str, str]) -> None:
    """Write named NumPy arrays and text metadata as one safetensors file, not atomically.

    The metadata gain a `digest`, the SHA-256 of all names, types, shapes, values and metadata: safetensors itself does
    not notice a flipped bit.
    """
    import numpy as np
    from safetensors.numpy import save

    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    record = {**metadata, "digest": content_digest(arrays, metadata)}
    # One entry, because safetensors writes several in random order; and written by Python, because safetensors' own
    # writer does not raise an OSError if the disk is full.
    path.write_bytes(save(arrays, {_METADATA: json.dumps(record, sort_keys=True)}))


def write_arrays(path: Path, arrays: "Mapping[str, np.ndarray]", metadata: Mapping[str, str]) -> None:
    """`dump_arrays`, atomically."""
    with atomic_file(path) as temporary:
        dump_arrays(temporary, arrays, metadata)


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a safetensors file's arrays, by name, without reading the arrays.

    Raises:
        RaectlError: the file is missing, not a safetensors file, or larger than the machine's memory.
    """
    with _opened(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (not a dict)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Context manager: an open safetensors file, refused if it declares more than this machine can hold."""
    from safetensors import SafetensorError, safe_open

    with open_file(path) as plain:
        length, size = int.from_bytes(plain.read(8), "little"), os.fstat(plain.fileno()).st_size
    if length > _MAX_HEADER or size > _memory():
        raise RaectlError(f"{path} is not one of raectl's files: it is larger than this machine's memory")
    try:
        with safe_open(path, framework="np") as file:
            yield file
    except (OSError, SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise RaectlError(f"cannot read {path}: {error}", "the file is missing, cut short or damaged") from error


def _memory() -> float:
    """Bytes of this machine's memory; infinite if the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return math.inf


def read_arrays(path: Path) -> "tuple[dict[str, np.ndarray], dict[str, str]]":
    """The named arrays of a file written by `dump_arrays`, and its metadata without the digest.

    Raises:
        RaectlError: the file is missing, not a safetensors file, or damaged.
    """
    with _opened(path) as file:
        metadata: dict[str, str] = parse_json((file.metadata() or {})[_METADATA])
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise TypeError("its metadata are not raectl's")
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    if metadata.pop("digest", None) != content_digest(arrays, metadata):
        raise RaectlError(f"{path} is damaged: its content does not match its digest", "restore it from a copy")
    return arrays, metadata
