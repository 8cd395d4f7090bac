"""Safe reading of untrusted files: plain files only, strict JSON, bounded sizes."""

import contextlib
import io
import json
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raectl.errors import RaectlError

# Bytes. raectl's files have a few thousand; a byte of JSON can become 30 bytes of Python objects.
_MAX_JSON = 4 * 2**20
_MAX_LINE = 2**16
_MAX_LINES = 32 * 2**20  # 80,000 epochs


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


def parse_json(text: str | bytes) -> Any:
    """Parse JSON, strictly.

    Raises:
        ValueError: it is not JSON, has a duplicate field, NaN, an infinity, or an integer beyond 64 bits.
    """
    try:
        return json.loads(
            text, object_pairs_hook=_unique, parse_constant=_finite, parse_float=_finite, parse_int=_integer
        )
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


def read_json(path: Path) -> Any:
    """Read a JSON file; see `parse_json`.

    Raises:
        RaectlError: it is missing, unreadable, larger than any of raectl's, or not strict JSON.
    """
    with open_file(path) as file:
        content = file.read(_MAX_JSON + 1)
    if len(content) > _MAX_JSON:
        raise RaectlError(f"{path} is too large to be one of raectl's JSON files")
    try:
        return parse_json(content)
    except ValueError as error:
        raise RaectlError(f"{path} is not valid JSON: {error}") from error


def json_lines(path: Path) -> Iterator[Any]:
    """The values of the lines of a file's last 32 MiB that are JSON; none if the file does not exist."""
    if not path.exists():
        return
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - _MAX_LINES))
        while text := file.readline(_MAX_LINE):
            with contextlib.suppress(ValueError):
                yield parse_json(text)
