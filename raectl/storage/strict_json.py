"""Reading files that nobody vouches for: plain files only, JSON as we write it, and never more than there is reason to.

What is refused would wait for ever, fill the memory, or mean one thing to us and another to the next reader.
"""

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

# Bytes. Ours have a few thousand; of values that Python holds, a byte of JSON can make 30.
_MAX_JSON = 4 * 2**20
_MAX_LINE = 2**16
_MAX_LINES = 32 * 2**20  # 80,000 epochs


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[io.BufferedReader]:
    """A file, open for its bytes to be read; a pipe or a device, which might never end, is refused.

    Raises:
        RaectlError: it is missing, unreadable or no file.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise RaectlError(f"cannot read {path}: it is no file")
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise RaectlError(f"cannot read {path}: {error.strerror or error}") from error


def parse_json(text: str | bytes) -> Any:
    """What JSON says, if it says it once and in numbers that we write.

    Raises:
        ValueError: it is no JSON, names a field twice, or has NaN, an infinity, or an integer beyond 64 bits.
    """
    try:
        return json.loads(
            text, object_pairs_hook=_once, parse_constant=_finite, parse_float=_finite, parse_int=_integer
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a field is there twice")
    return values


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is no finite number")
    return value


def _integer(text: str) -> int:
    if len(text) > 20 or abs(value := int(text)) >= 2**64:
        raise ValueError(f"{text[:20]} is too large a number")
    return value


def read_json(path: Path) -> Any:
    """Read a JSON file; see `parse_json`.

    Raises:
        RaectlError: it is missing, unreadable, larger than any of ours, or not JSON as we write it.
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
    """What each line of a file holds, of its last 32 MiB, if it is JSON; nothing if there is no file."""
    if not path.exists():
        return
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - _MAX_LINES))
        while text := file.readline(_MAX_LINE):
            with contextlib.suppress(ValueError):
                yield parse_json(text)
