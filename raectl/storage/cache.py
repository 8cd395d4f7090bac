"""The cache directory, and keys of what is kept there."""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any


def cache_directory() -> Path:
    """`$RAECTL_CACHE`, or `raectl` in the place that the system has for caches."""
    if own := os.environ.get("RAECTL_CACHE"):
        return Path(own)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "raectl"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "raectl"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "raectl"


def digest(*parts: Any) -> str:
    """SHA-256 of values that JSON can hold, in hexadecimal."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
