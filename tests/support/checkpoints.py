"""What the tests of checkpoint directories share: a small configuration, damage, and a process that ends."""

import json
from pathlib import Path
from typing import Any

from raectl.checkpoint.directory import Directory
from raectl.config import Config
from raectl.training.resuming import resumed

SMALL: dict[str, Any] = {"image_size": 12, "width": 2, "latent_dim": 4, "batch_size": 16, "device": "cpu"}


class KilledError(BaseException):
    """Not an Exception, so nothing handles it: the process ends here."""


def flip_value(content: bytes) -> bytes:
    return content[:-5] + bytes([content[-5] ^ 4]) + content[-4:]


def edit(path: Path, change: Any) -> None:
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def train_settings(path: Path, epochs: int) -> Config:
    """What a run is resumed with."""
    return resumed(Directory(path), {"epochs": epochs})
