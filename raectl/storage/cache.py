"""The cache directory, and the digests that are its keys."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def cache_directory() -> Path:
    """`$RAECTL_CACHE`, or `raectl` in the system's directory for caches."""
    if own := os.environ.get("RAECTL_CACHE"):
        return Path(own)
    import platformdirs

    return platformdirs.user_cache_path("raectl", appauthor=False)


def digest(*parts: Any) -> str:
    """SHA-256 of values that JSON can represent, in hexadecimal."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def digest_of_many(rows: Iterable[Any], *parts: Any) -> str:
    """`digest([*rows], *parts)`, with one row in memory at a time; of one part at least.

    Example:
        >>> digest_of_many(iter([1, "a"]), "b") == digest([1, "a"], "b")
        True
    """
    running = hashlib.sha256(b"[[")
    for number, row in enumerate(rows):
        running.update(f"{', ' if number else ''}{json.dumps(row)}".encode())
    running.update(f"], {json.dumps(parts)[1:]}".encode())
    return running.hexdigest()


def file_state(path: Path) -> str:
    """A digest of a file's path, size and times, which changes when the file does, without reading it."""
    status = path.stat()
    return digest(str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns)
