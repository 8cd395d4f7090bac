"""The cache directory, and the digests that are its keys."""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any


def cache_directory() -> Path:
    """`$RAECTL_CACHE`, or `raectl` in the system's directory for caches."""
    if own := os.environ.get("RAECTL_CACHE"):
        return Path(own)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "raectl"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "raectl"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "raectl"


def digest(*parts: Any) -> str:
    """SHA-256 of values that JSON can represent, in hexadecimal."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def file_state(path: Path) -> str:
    """A digest of a file's path, size and times, which changes when the file does, without reading it."""
    status = path.stat()
    return digest(str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns)
