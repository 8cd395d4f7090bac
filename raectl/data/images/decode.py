"""Convert an image file, or an array of images, to uint8 images of one shape: (H, W, C) with C 1 (grey) or 3 (colour).

Both go through the same steps, so that a folder of images and the array of their pixels give the same bytes: rotate by
the EXIF orientation, composite on the background, convert to grey or colour, crop, pad or stretch.
"""

import contextlib
import functools
import importlib
import io
import logging
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError

from raectl.data import limits
from raectl.data.images import plain
from raectl.data.images.formats import (
    is_plain_tiff,
    is_tiff,
    of_jpeg2000,
    of_mode,
    of_png,
    of_pnm,
    of_tiff,
    page_offsets,
    png_bits,
    refuse_missing_segments,
    tiff_file,
)
from raectl.data.images.plain import Plain
from raectl.data.images.wide import UPRIGHT, Wide, orientation_of
from raectl.data.options import DataOptions
from raectl.data.values import BYTES, Range, Values, chosen

_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000")
_PLUGINS = ("Mpo", "WebP", "Tiff", "Avif", "Jpeg2K")
_ANIMATED = frozenset({"GIF", "PNG", "WEBP"})
_GREY = frozenset({"1", "L", "LA", "La"})
_ORIENTATION = 0x0112  # the EXIF tag; values from 5 on swap width and height
_OVERSAMPLED = 2  # the reduced size at which a JPEG is decoded is at least this many times the target size
_MOST_PIXELS = {"WEBP": 2**25, "JPEG2000": 2**25}  # these decoders need at least 16 bytes a pixel: 0.6 GB
_BAND = 2**22  # pixels converted at a time; an image may have twenty times as many, of at least 4 bytes each

for _name in ("PIL", "tifffile"):  # what they log of odd files is printed only by programs that set up logging
    logging.getLogger(_name).addHandler(logging.NullHandler())

Picture = Image.Image | Wide | Plain


class BadImageError(Exception):
    """An image that cannot be used; its text is the reason, in a few words."""


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.preinit()  # PNG, JPEG, GIF, BMP, PPM; `init` would import forty formats more
    for name in _PLUGINS:
        with contextlib.suppress(ImportError):  # Pillow may be built without some
            importlib.import_module(f"PIL.{name}ImagePlugin")
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def reason(error: Exception) -> str:
    """Why an image is bad, in a few words on one line."""
    if isinstance(error, Image.DecompressionBombError):
        return "too many pixels"
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 80 else text[:77] + "..."


def _unknown(data: bytes) -> str:
    """What a file is that no decoder knows."""
    begins: dict[str, bytes | tuple[bytes, ...]] = {
        "a Git LFS pointer, no image": b"version https://git-lfs",
        "a web page, no image": (b"<!doctype html", b"<!DOCTYPE html", b"<html", b"<HTML"),
    }
    found = [what for what, first in begins.items() if data.lstrip().startswith(first)]
    return found[0] if found else "no image of a known format" if data else "an empty file"


def open_picture(data: bytes, page: int | None = None) -> Picture:
    """The image in a file's bytes, with its header read and its pixels not yet decoded.

    Arguments:
        page: of a TIFF, where the page's directory is; None for the first page.

    Raises:
        BadImageError: its format is not supported, or it has more pixels than Pillow or this module allows.
    """
    try:
        # Pillow takes signed bytes for others, and a TIFF of other types for no image.
        picture = _tiff(data, page) if is_tiff(data) else plain.of_png(data, _opened) or of_pnm(data) or _opened(data)
    except UnidentifiedImageError as error:
        raise BadImageError(_unknown(data)) from error
    except Exception as error:  # decoders raise nearly anything on a hostile file
        raise BadImageError(reason(error)) from error
    form = (picture.format or "") if isinstance(picture, Image.Image) else ""
    max_pixels = min(Image.MAX_IMAGE_PIXELS or sys.maxsize, _MOST_PIXELS.get(form, sys.maxsize))
    if math.prod(picture.size) > max_pixels:
        raise BadImageError("{}x{} pixels are too many".format(*picture.size))
    if not isinstance(picture, Image.Image):
        return picture
    _widen_transparency(picture, data)
    try:
        return of_png(data, picture) or of_jpeg2000(data, picture) or of_mode(picture) or picture
    except Exception as error:
        raise BadImageError(reason(error)) from error


def _opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=_formats())


def _tiff(data: bytes, page: int | None) -> Image.Image | Wide:
    """By Pillow where that reads it as it is, which is faster."""
    try:
        image = Image.open(tiff_file(data, page), formats=_formats())  # type: ignore[arg-type]  # which is a file, too
    except UnidentifiedImageError:
        if wide := of_tiff(data, page, with_bytes=True):
            return wide
        raise
    wide = None if is_plain_tiff(image) else of_tiff(data, page)
    if wide is None:
        refuse_missing_segments(image)
    return wide or image


def _widen_transparency(image: Image.Image, data: bytes) -> None:
    """Bring the transparent grey level of a PNG of 2 or 4 bits to 8 bits, as Pillow does with its pixels."""
    level = image.info.get("transparency")
    if image.format == "PNG" and image.mode == "L" and isinstance(level, int) and (bits := png_bits(data)) < 8:
        image.info["transparency"] = level * 255 // (2**bits - 1)


class Header(NamedTuple):
    """(width, height) after rotation by the EXIF orientation, number of channels but alpha, number of frames."""

    size: tuple[int, int]
    channels: int
    frames: int = 1


def header(picture: Picture) -> Header:
    """Size and colour of an opened image, without decoding its pixels."""
    if not isinstance(picture, Image.Image):
        return Header(picture.size, picture.colours, picture.frames)
    width, height = picture.size
    # Pillow gives a TIFF's rotated size.
    if picture.format != "TIFF" and _orientation_told(picture) >= 5:
        width, height = height, width
    return Header((width, height), 1 if picture.mode in _GREY else 3, _frames(picture))


def _frames(image: Image.Image) -> int:
    try:
        if image.format == "TIFF":
            file = image.fp  # type: ignore[attr-defined]
            return len(page_offsets(file.getbuffer())) if isinstance(file, io.BytesIO) else 1
        return int(getattr(image, "n_frames", 1))
    except Exception:  # a damaged end does not make the first frame bad
        return 1


def values(picture: Picture) -> Values | None:
    """The extremes of an opened image's values, by their kind; None if they are bytes.

    Raises:
        BadImageError: it cannot be decoded, or a value is not finite.
    """
    if not isinstance(picture, Wide) or picture.kind == BYTES:
        return None
    try:
        return picture.kind, picture.extremes()
    except Exception as error:
        raise BadImageError(reason(error)) from error


def _orientation_told(image: Image.Image) -> int:
    """The EXIF orientation, unless Pillow would decode the image to look for it at the file's end."""
    return _orientation(image) if "exif" in image.info else UPRIGHT


def _orientation(image: Image.Image) -> int:
    try:
        return orientation_of(image.getexif().get(_ORIENTATION))
    except Exception:  # damaged EXIF data do not make an image bad
        return UPRIGHT


def converted(picture: Picture, options: DataOptions) -> Image.Image:
    """An opened image of the target's size, in mode L or RGB; of an animation, the first frame.

    Raises:
        BadImageError: it cannot be decoded, or a value is not finite.
    """
    try:
        if isinstance(picture, Wide):
            image = picture.image(chosen(options.range, picture.kind))
        else:
            image = picture.image() if isinstance(picture, Plain) else picture
            _draft(image, options)
            ImageOps.exif_transpose(image, in_place=True)
            image = _ranged(_without_idle_alpha(image), chosen(options.range, BYTES))
        flat = _flat(image, _background(options, "RGB"), "L" if options.channels == 1 else "RGB")
        return _fitted(flat, options)
    except Exception as error:
        raise BadImageError(reason(error)) from error


def animated(data: bytes) -> Image.Image | None:
    """The animation in a file's bytes, a GIF, PNG or WebP of several frames; None if it is none."""
    with contextlib.suppress(Exception):  # `open_picture` says what is wrong
        image = None if is_tiff(data) or plain.of_png(data, _opened) else _opened(data)
        if image and image.format in _ANIMATED and _frames(image) > 1:
            return image
    return None


def row(picture: Picture, options: DataOptions) -> np.ndarray:
    """`converted(picture)` as an array, (H, W, C) uint8."""
    shape = limits.item_shape(options)
    own = (*picture.size[::-1], picture.channels) if isinstance(picture, Plain) else None
    if isinstance(picture, Plain) and own == shape and not chosen(options.range, BYTES):
        try:
            return picture.pixels()
        except Exception as error:
            raise BadImageError(reason(error)) from error
    return np.asarray(converted(picture, options)).reshape(shape)


def block(images: np.ndarray, options: DataOptions) -> np.ndarray:
    """Convert images of one size: (n, h, w, 1 | 3 | 4) uint8, 4 with alpha => (n, H, W, C) uint8."""
    height, width, channels = limits.item_shape(options)
    images = _channels(images, channels, np.array(_background(options, "RGB"), np.uint16))
    h, w = images.shape[1:3]
    left, top, right, bottom = _part((w, h), (width, height), options.fit)
    if (bottom - top, right - left) == (height, width):
        return images[:, top:bottom, left:right]
    if options.fit == "pad" and h <= height and w <= width:
        top, left = (height - h) // 2, (width - w) // 2
        padded = np.empty((len(images), height, width, channels), np.uint8)
        padded[:] = _background(options, "L" if channels == 1 else "RGB")
        padded[:, top : top + h, left : left + w] = images
        return padded
    images = images[..., 0] if channels == 1 else images
    fitted = [np.asarray(_fitted(Image.fromarray(image), options)) for image in images]
    return np.stack(fitted).reshape(-1, height, width, channels)


def _draft(image: Image.Image, options: DataOptions) -> None:
    """Have a JPEG that is much larger than the target decoded at 1/2, 1/4 or 1/8 of its size, which is faster."""
    height, width, _ = limits.item_shape(options)
    if _orientation_told(image) >= 5:  # the file's rows become columns
        height, width = width, height
    w, h = wanted = _OVERSAMPLED * width, _OVERSAMPLED * height
    if options.fit == "pad":  # the part of the target that the image fills
        own_w, own_h = image.size
        side, own = (w, own_w) if w * own_h <= h * own_w else (h, own_h)
        wanted = math.ceil(side * own_w / own), math.ceil(side * own_h / own)
    image.draft(None, wanted)


def _flat(image: Image.Image, background: tuple[int, ...], mode: str) -> Image.Image:
    """The image in mode L or RGB, composited on the background if it has transparency."""
    if image.mode == "La":
        image = image.convert("LA")  # no other conversion of it is known
    if image.has_transparency_data:
        return _in_bands(image, mode, lambda band: _composited(band, background, mode))
    if image.mode == mode:
        return image
    # Every colour space is converted to grey by way of RGB.
    direct = image.mode in ("1", "L", "RGB")
    return _in_bands(image, mode, lambda band: (band if direct else band.convert("RGB")).convert(mode))


def _without_idle_alpha(image: Image.Image) -> Image.Image:
    """The image, or the colours alone of a bitmap that is transparent everywhere: its fourth byte is not in use."""
    if image.format in ("BMP", "DIB") and image.mode == "RGBA" and not image.getchannel("A").getbbox():
        return image.convert("RGB")
    return image


def _ranged(image: Image.Image, found: Range | None) -> Image.Image:
    """The image with a range of bytes brought to 0 to 255, in all channels but alpha."""
    if found is None:
        return image
    table = found.scaled(np.arange(256)).tolist()
    image = image.convert("RGBA" if image.has_transparency_data else "L" if image.mode in _GREY else "RGB")
    return image.point(
        table * (len(image.getbands()) - (image.mode == "RGBA")) + [*range(256)] * (image.mode == "RGBA")
    )


def _in_bands(image: Image.Image, mode: str, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """`convert(image)`, of a large image band by band, to bound the memory of intermediate images."""
    if math.prod(image.size) <= _BAND:
        return convert(image)
    converted = Image.new(mode, image.size)
    for top, band in _bands(image):
        converted.paste(convert(band), (0, top))
    return converted


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _composited(image: Image.Image, background: tuple[int, ...], mode: str) -> Image.Image:
    flat = Image.new("RGB", image.size, background)
    image = image if image.mode == "RGBA" else image.convert("RGBA")
    flat.paste(image, mask=image)
    return flat if mode == "RGB" else flat.convert(mode)


def _background(options: DataOptions, mode: str) -> tuple[int, ...]:
    assert options.background is not None
    colour = ImageColor.getcolor(options.background, mode)
    return colour if isinstance(colour, tuple) else (colour,)


def _fitted(image: Image.Image, options: DataOptions) -> Image.Image:
    """The image cropped, padded or stretched to the target size, antialiased where it shrinks."""
    height, width, _ = limits.item_shape(options)
    target, (w, h) = (width, height), image.size
    if image.size == target:
        return image
    box = _part(image.size, target, options.fit)
    if options.fit != "pad":
        return _resized(image, target, box)
    # Padding never enlarges: small images keep their pixels.
    scale = min(1.0, width / w, height / h)
    inner = max(1, round(w * scale)), max(1, round(h * scale))
    canvas = Image.new(image.mode, target, _background(options, image.mode))
    canvas.paste(_resized(image, inner, box), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return canvas


def _part(size: tuple[int, int], target: tuple[int, int], fit: str) -> tuple[int, int, int, int]:
    """What is used of an image, in whole pixels: all, or what a crop to the target's shape leaves, the middle.

    Arguments:
        size, target: (width, height).

    Returns:
        Left, top, right and bottom.
    """
    w, h = size
    if fit != "crop":
        return 0, 0, w, h
    width, height = target
    part_w, part_h = min(w, max(1, round(h * width / height))), min(h, max(1, round(w * height / width)))
    left, top = (w - part_w) // 2, (h - part_h) // 2
    return left, top, left + part_w, top + part_h


def _resized(image: Image.Image, size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    return image.resize(size, Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)


def fit_channel(channel: np.ndarray, options: DataOptions) -> np.ndarray:
    """One channel, (h, w) uint8, or float32 of 0 to 255 => (H, W) of the same type."""
    return np.asarray(_fitted(Image.fromarray(channel), options))


def of_channels(options: DataOptions, channels: int) -> list[DataOptions]:
    """The options of each channel alone: its background is grey, of the colour's level in it, or else of its luma."""
    colour = _background(options, "RGB") if channels == 3 else _background(options, "L") * channels
    return [replace(options, background=f"#{level:02x}{level:02x}{level:02x}") for level in colour]


def background(options: DataOptions) -> tuple[int, ...]:
    """Red, green and blue behind what is transparent, in bytes."""
    return _background(options, "RGB")


def _channels(images: np.ndarray, channels: int, background: np.ndarray) -> np.ndarray:
    """Composite and convert: (n, H, W, 1 | 3 | 4) => (n, H, W, channels), rounded as Pillow rounds."""
    if images.shape[-1] == 4:
        alpha = images[..., 3:].astype(np.uint16)
        # The largest sum is 255 * 255 + 127, which fits into 16 bits.
        images = ((images[..., :3] * alpha + background * (255 - alpha) + 127) // 255).astype(np.uint8)
    if images.shape[-1] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=-1)
    weighted = images.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)  # ITU-R 601 luma in 16 bits
    return ((weighted + 0x8000) >> 16).astype(np.uint8)[..., None]
