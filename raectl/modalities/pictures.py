"""Grids of images as one picture. Arrays are uint8: images (N, H, W, C), pictures (H', W', C).

Every grid but `progress` raises a `RaectlError` if it would have more than `MAX_PIXELS` pixels.
"""

import math
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from raectl.errors import RaectlError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
TIFF = (".tif", ".tiff")
MAX_PIXELS = 2**28
BACKGROUND = 192  # light grey, different from black and from white images
GAP = 4  # pixels between images
WIDE_GAP = 12  # pixels between groups of images
_FRAME_MS = 120
_FONT = 16  # pixels
_SMALLEST, _LARGEST = 64, 1024  # pixels; images with a shorter side are enlarged, but no side above the latter

# With the defaults of these formats, the edges between images are blurred.
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    ".jpg": {"quality": 95, "subsampling": 0},
    ".jpeg": {"quality": 95, "subsampling": 0},
    ".webp": {"lossless": True},
}


def save(path: Path, pixels: np.ndarray) -> None:
    """Write a picture in the format of the path's suffix, one of `SUFFIXES`; a `RaectlError` if it is too large."""
    suffix = path.suffix.lower()
    if suffix == ".webp" and max(pixels.shape) > 16383:
        raise RaectlError("WebP allows 16,383 pixels a side, too few for this grid", "write a .png instead")
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(path, **_SAVE_OPTIONS.get(suffix, {}))


def save_pages(file: IO[bytes], images: np.ndarray) -> None:
    """Write images of any real type as one TIFF, a page each, their channels as samples: (..., H, W, C)."""
    import tifffile

    pages = images.reshape(-1, *images.shape[-3:])
    is_colour, is_grey = pages.shape[-1] == 3, pages.shape[-1] == 1
    tifffile.imwrite(
        file,
        pages[..., 0] if is_grey else pages,
        photometric="rgb" if is_colour else "minisblack",
        planarconfig=None if is_grey else "contig",
        metadata=None,
    )


def grid(images: np.ndarray) -> np.ndarray:
    """Images in a near-square grid, small ones enlarged: (N, H, W, C) => (H', W', C)."""
    n, h, w, _ = images.shape
    grid_size(n, h, w)
    return _sheet(_enlarged(images), _columns(n, h, w), GAP)


def grid_size(n: int, h: int, w: int) -> tuple[int, int]:
    """Height and width of the `grid` of n images of (h, w) pixels."""
    f = _factor(h, w)
    return _size(n, _columns(n, h, w), h * f, w * f, GAP)


def pair_grid(originals: np.ndarray, reconstructions: np.ndarray) -> np.ndarray:
    """Each original with its reconstruction on the right, in a near-square grid: 2 x (N, H, W, C) => (H', W', C)."""
    n, h, w, _ = originals.shape
    f = _factor(h, w)
    pair_w = 2 * w * f + GAP
    columns = _columns(n, h * f + WIDE_GAP, pair_w + WIDE_GAP)
    _size(n, columns, h * f, pair_w, WIDE_GAP)
    return _sheet(_joined(_enlarged(originals), _enlarged(reconstructions), axis=2), columns, WIDE_GAP)


def rows(images: np.ndarray) -> np.ndarray:
    """Sequences of images, a row each: (P, S, H, W, C) => (H', W', C)."""
    p, s, h, w, _ = images.shape
    f = _factor(h, w)
    _size(p * s, s, h * f, w * f, GAP)
    return _sheet(_enlarged(images.reshape(-1, *images.shape[2:])), s, GAP)


def labelled_rows(labels: Sequence[str], images: np.ndarray) -> np.ndarray:
    """`rows` with a label on the left of each: R labels and (R, S, H, W, C) => (H', W', C)."""
    sheet = rows(images)
    labels = [label if label.isascii() else _in_ascii(number, label) for number, label in enumerate(labels, 1)]
    font = ImageFont.load_default(_FONT)
    width = max(round(font.getlength(label)) for label in labels) + 2 * WIDE_GAP
    page = Image.new("RGB", (width, len(sheet)), (BACKGROUND,) * 3)
    draw = ImageDraw.Draw(page)
    step = (len(sheet) - GAP) / len(labels)
    for number, label in enumerate(labels):
        draw.text((WIDE_GAP, GAP + (number + 0.5) * step), label, fill="black", font=font, anchor="lm")
    text = np.asarray(page)[:, :, : sheet.shape[2]]  # black on grey: all channels are equal
    return np.concatenate([text, sheet], axis=1)


def _in_ascii(number: int, label: str) -> str:
    """A label as far as the font has its letters, behind the number of its row."""
    known = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode().strip()
    return f"{number}. {known}".rstrip()


def save_animation(path: Path, frames: Sequence[np.ndarray]) -> None:
    """Write frames (H, W, C) as a GIF that plays forward and backward in a loop."""
    there_and_back = [*frames, *frames[-2:0:-1]]
    first, *rest = (Image.fromarray(f[:, :, 0] if f.shape[2] == 1 else f) for f in there_and_back)
    first.save(path, save_all=True, append_images=rest, duration=_FRAME_MS, loop=0)


def progress(originals: np.ndarray, reconstructions: np.ndarray, samples: np.ndarray | None) -> np.ndarray:
    """Originals above their reconstructions, and a block of samples below.

    Both blocks have a column per original, at most 16. 3 x (N, H, W, C) => (H', W', C).
    """
    columns = min(len(originals), 16)
    pairs = _sheet(_joined(_enlarged(originals), _enlarged(reconstructions), axis=1), columns, GAP)
    if samples is None or not len(samples):
        return pairs
    block = _sheet(_enlarged(samples), columns, GAP)
    gap = np.full((WIDE_GAP - 2 * GAP, *pairs.shape[1:]), BACKGROUND, np.uint8)
    return np.concatenate([pairs, gap, block])


def _factor(h: int, w: int) -> int:
    return min(math.ceil(_SMALLEST / min(h, w)), max(1, _LARGEST // max(h, w)))


def _enlarged(images: np.ndarray) -> np.ndarray:
    """Repeat every pixel f x f times: (N, H, W, C) => (N, f H, f W, C)."""
    f = _factor(*images.shape[1:3])
    return images.repeat(f, axis=1).repeat(f, axis=2)


def _columns(n: int, h: int, w: int) -> int:
    """The number of columns with which n tiles of (h, w) fill about a square."""
    return min(n, math.ceil(math.sqrt(n * h / w)))


def _joined(first: np.ndarray, second: np.ndarray, axis: int) -> np.ndarray:
    """Pairs of images as one tile each, with a gap in between."""
    shape = list(first.shape)
    shape[axis] = GAP
    return np.concatenate([first, np.full(shape, BACKGROUND, np.uint8), second], axis=axis)


def _size(n: int, columns: int, h: int, w: int, gap: int) -> tuple[int, int]:
    height, width = math.ceil(n / columns) * (h + gap) + gap, columns * (w + gap) + gap
    if height * width > MAX_PIXELS:
        hint = "write a .npz, or a directory (a name without a suffix), or fewer images"
        raise RaectlError(f"a grid of {n:,} images would be {width:,} x {height:,} pixels", hint)
    return height, width


def _sheet(tiles: np.ndarray, columns: int, gap: int) -> np.ndarray:
    """Tiles in rows from the top left, gaps between and around them: (N, H, W, C) => (H', W', C)."""
    n, h, w, c = tiles.shape
    rows = math.ceil(n / columns)
    cells = np.full((rows * columns, gap + h, gap + w, c), BACKGROUND, np.uint8)
    cells[:n, gap:, gap:] = tiles
    by_row = cells.reshape(rows, columns, gap + h, gap + w, c).swapaxes(1, 2)
    sheet = by_row.reshape(rows * (gap + h), columns * (gap + w), c)
    return np.pad(sheet, ((0, gap), (0, gap), (0, 0)), constant_values=BACKGROUND)
