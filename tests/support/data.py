"""Small images and archives made on the fly."""

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from raectl.data import DataOptions
from raectl.data.images import decode


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Random uint8 of a shape."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    """(H, W) or (H, W, C) uint8 as the bytes of a PNG."""
    return encoded(Image.fromarray(pixels), "PNG")


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files by relative path."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def pngs(count: int, size: int = 8, prefix: str = "") -> dict[str, bytes]:
    """Different colour PNGs by name."""
    return {f"{prefix}{index:04}.png": png(noise(size, size, 3, seed=index)) for index in range(count)}


def squared(data: bytes, options: DataOptions) -> np.ndarray:
    """An image file's bytes to (S, S, C) uint8, as a source makes them."""
    pixels = np.asarray(decode.converted(decode.open_picture(data), options))
    return pixels.reshape(*pixels.shape[:2], -1)
