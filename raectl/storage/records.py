"""The gate for what others may have written: JSON becomes typed records here, checked once and not again behind it.

A record is a dataclass, or another type that msgspec knows; bounds are written as `Annotated[int, Meta(ge=0)]`, other
conditions in `__post_init__`. Arrays come through `raectl.storage.arrays` in the same way.
"""

import contextlib
import dataclasses
import io
import json
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from raectl.errors import RaectlError

# Bytes. raectl's files have a few thousand; a byte of JSON can become 30 bytes of Python objects.
_MAX_JSON = 4 * 2**20
_MAX_LINE = 2**16
_MAX_LINES = 32 * 2**20  # 80,000 epochs

RESTORE = "restore it from a copy"
T = TypeVar("T")
Count = Annotated[int, Meta(ge=0, le=2**53)]
Positive = Annotated[float, Meta(gt=0)]


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file for reading bytes; pipes and devices, which may never end, are refused.

    Raises:
        RaectlError: it is missing, unreadable or not a plain file.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise RaectlError(f"cannot read {path}: it is not a plain file")
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise RaectlError(f"cannot read {path}: {error.strerror or error}") from error


def convert(value: Any, kind: type[T]) -> T:
    """A JSON value as a record; only options, which an earlier version may not have had, may be missing.

    Raises:
        ValueError: a field is missing, unknown, of another type or out of its bounds.

    Example:
        >>> convert({"n": 3}, dict[str, Count])
        {'n': 3}
    """
    try:
        record = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
    except RaectlError as error:
        raise ValueError(error.message) from error
    _check_fields(value, record)
    return record


def _check_fields(value: dict[str, Any], record: Any) -> None:
    if not dataclasses.is_dataclass(record):
        return
    fields = {field.name: field for field in dataclasses.fields(record)}
    if unknown := value.keys() - fields.keys():
        raise ValueError(f"the field {min(unknown)!r} is unknown")
    if missing := [name for name, field in fields.items() if name not in value and "option" not in field.metadata]:
        raise ValueError(f"the field {missing[0]!r} is missing")
    for name, part in value.items():
        _check_fields(part, getattr(record, name))


def to_json(record: Any) -> Any:
    """A record as JSON values: the inverse of `convert`."""
    return msgspec.to_builtins(record)


def parse(text: str | bytes, kind: type[T]) -> T:
    """A record from JSON, strictly.

    Raises:
        ValueError: it is not JSON, has a duplicate field, NaN, an infinity, or an integer beyond 64 bits, or is no such
            record.
    """
    try:
        value = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_finite, parse_float=_finite, parse_int=_integer
        )
        return convert(value, kind)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("it has a field twice")
    return values


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is not a finite number")
    return value


def _integer(text: str) -> int:
    if len(text) > 20 or abs(value := int(text)) >= 2**64:
        raise ValueError(f"{text[:20]} is too large a number")
    return value


def read_record(path: Path, kind: type[T], hint: str = RESTORE, largest: int = _MAX_JSON) -> T:
    """Read a JSON file; see `parse`.

    Raises:
        RaectlError: it is missing, unreadable, larger than any of raectl's, not strict JSON, or no such record.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read() if size <= largest else b""
    if size > largest:
        raise RaectlError(f"{path} is too large to be one of raectl's JSON files")
    try:
        return parse(content, kind)
    except ValueError as error:
        raise RaectlError(f"{path} is damaged: {error}", hint) from error


def read_lines(path: Path, kind: type) -> Iterator[dict[str, Any]]:
    """The lines of a file's last 32 MiB that are objects with the fields of a `TypedDict`, and any others."""
    if not path.exists():
        return
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - _MAX_LINES))
        while text := file.readline(_MAX_LINE):
            with contextlib.suppress(ValueError):
                line = parse(text, dict[str, Any])
                msgspec.convert(line, kind)
                yield line
