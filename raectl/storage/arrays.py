"""Named arrays in safetensors files, with a record and a digest of their content, checked on reading.

A layout says which arrays a file must have: it is compared with the file's header before any array is read, since two
numbers in a config.json suffice to ask for a model of a hundred gigabytes.
"""

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from raectl.errors import RaectlError
from raectl.storage.atomic import atomic_file
from raectl.storage.records import RESTORE, convert, open_file, parse, to_json

Arrays = dict[str, np.ndarray]
Spec = tuple[tuple[int, ...], str]  # an array's shape and NumPy type
# Names in a file => names that it must have, and of what shape and type; None for an array that is checked elsewhere.
Layout = Callable[[Collection[str]], Mapping[str, Spec | None]]
T = TypeVar("T")
_METADATA = "raectl"  # key of the only metadata entry of a safetensors file
_MAX_HEADER = 4 * 2**20  # bytes; raectl's files have a few thousand


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_digest(arrays: Mapping[str, np.ndarray], record: Any = None) -> str:
    """SHA-256 of all names, types, shapes and values, and of a record."""
    digest = hashlib.sha256(json.dumps(to_json(record), sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}:{array.dtype.str}:{array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)  # makes a scalar array 1-d: the same bytes
    return digest.hexdigest()


def dump_arrays(path: Path, arrays: Mapping[str, np.ndarray], record: Any = None) -> None:
    """Write named NumPy arrays and a record as one safetensors file, not atomically.

    They are written with a SHA-256 of both: safetensors itself does not notice a flipped bit.
    """
    from safetensors.numpy import save

    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    metadata = {"record": to_json(record), "digest": content_digest(arrays, record)}
    # One entry, because safetensors writes several in random order; and written by Python, because safetensors' own
    # writer does not raise an OSError if the disk is full.
    path.write_bytes(save(arrays, {_METADATA: json.dumps(metadata, sort_keys=True)}))


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], record: Any = None) -> None:
    """`dump_arrays`, atomically."""
    with atomic_file(path) as temporary:
        dump_arrays(temporary, arrays, record)


def read_header(path: Path, kind: type[T], layout: Layout | None = None, hint: str = RESTORE) -> T:
    """The record of a file, without reading its arrays, of which only the layout is checked; see `read_arrays`."""
    with _opened(path, hint) as file:
        if layout:
            _check_header(path, file, layout, hint)
        metadata = _metadata(file)
    return _record(path, metadata, kind, hint)


def read_arrays(path: Path, kind: type[T], layout: Layout | None = None, hint: str = RESTORE) -> tuple[Arrays, T]:
    """The named arrays and the record of a file written by `dump_arrays`.

    Arguments:
        kind: of the record.
        layout: which arrays the file must have, of finite values; None for any.
        hint: what to do about a file that is none.

    Raises:
        RaectlError: the file is missing, not a safetensors file, damaged, or holds other arrays or another record.
    """
    with _opened(path, hint) as file:
        metadata = _metadata(file)
        if layout:
            _check_header(path, file, layout, hint)
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    if metadata.get("digest") != content_digest(arrays, metadata.get("record")):
        raise RaectlError(f"{path} is damaged: its content does not match its digest", hint)
    if layout:
        _check_values(path, arrays, layout(arrays), hint)
    return arrays, _record(path, metadata, kind, hint)


def _metadata(file: Any) -> dict[str, Any]:
    metadata = file.metadata() or {}
    if _METADATA not in metadata:
        raise ValueError("raectl did not write it")
    return parse(metadata[_METADATA], dict[str, Any])


def _record(path: Path, metadata: Mapping[str, Any], kind: type[T], hint: str) -> T:
    try:
        return convert(metadata.get("record"), kind)
    except ValueError as error:
        raise RaectlError(f"{path} is damaged: {error}", hint) from error


def _check_header(path: Path, file: Any, layout: Layout, hint: str) -> None:
    shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (not a dict)
    wanted = layout(shapes)
    if names := sorted(shapes.keys() ^ wanted.keys())[:3]:
        raise RaectlError(f"{path} holds other arrays than it should: {', '.join(names)} missing or too many", hint)
    for name, spec in wanted.items():
        if spec and shapes[name] != spec[0]:
            raise RaectlError(
                f"{path} holds other arrays than it should: {name} is {shapes[name]}, not {spec[0]}", hint
            )


def _check_values(path: Path, arrays: Arrays, wanted: Mapping[str, Spec | None], hint: str) -> None:
    for name, array in arrays.items():
        spec = wanted[name]
        if spec and array.dtype != spec[1]:
            raise RaectlError(f"{path} holds other arrays than it should: {name} is {array.dtype}, not {spec[1]}", hint)
        if not np.isfinite(array).all():
            raise RaectlError(f"{path}: {name} has values that are not finite", hint)


@contextlib.contextmanager
def _opened(path: Path, hint: str) -> Iterator[Any]:
    """Context manager: an open safetensors file, refused if it declares more than this machine can hold."""
    from safetensors import SafetensorError, safe_open

    with open_file(path) as plain:
        length, size = int.from_bytes(plain.read(8), "little"), os.fstat(plain.fileno()).st_size
    if size > _memory():
        raise RaectlError(f"{path} is not one of raectl's files: it is larger than this machine's memory")
    if length > min(_MAX_HEADER, size):
        raise RaectlError(f"cannot read {path}: it is no safetensors file, or damaged", hint)
    try:
        with safe_open(path, framework="np") as file:
            yield file
    except (OSError, SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise RaectlError(f"cannot read {path}: {error}", hint) from error


def _memory() -> float:
    """Bytes of this machine's memory; infinite if the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return math.inf


def joined(groups: Mapping[str, Mapping[str, T]]) -> dict[str, T]:
    """Arrays of several groups as one dictionary: `group.name`."""
    return {f"{group}.{name}": value for group, named in groups.items() for name, value in named.items()}


def grouped(values: Mapping[str, T], groups: Iterable[str]) -> dict[str, dict[str, T]]:
    """The inverse of `joined`."""
    found: dict[str, dict[str, T]] = {group: {} for group in groups}
    for full, value in values.items():
        group, _, name = full.partition(".")
        found[group][name] = value
    return found
