"""Images as they are stored: as bytes, or in 16 bits, with any number of channels => (height, width, channels).

Grey and colour of bytes go the way of `raectl.data.images.decode`. Others go through the same steps with the rounding
of their bits: composite on the background, convert to grey or colour, fit each channel, in single precision for 16.
"""

import numpy as np

from raectl.data import limits
from raectl.data.images import decode
from raectl.data.images.units import from_bytes
from raectl.data.images.wide import Wide
from raectl.data.options import DataOptions
from raectl.data.values import chosen

_LUMA = np.array([19595, 38470, 7471], np.uint32)  # ITU-R 601, in 16 bits
_PER_BYTE = 257  # levels of 16 bits for one of 8


def row(picture: decode.Picture, options: DataOptions) -> np.ndarray:
    """An opened image, of an animation the first frame: (height, width, channels) uint8 or uint16.

    Raises:
        BadImageError: it cannot be decoded, a value is not finite, or its channels cannot become those of the others.
    """
    channels = picture.colours if isinstance(picture, Wide) else 3
    if channels != options.channels and not {channels, options.channels} <= {1, 3}:
        raise decode.BadImageError(f"{decode.header(picture).channels} channels, and {options.channels} are wanted")
    is_usual = options.bits != 16 and options.channels in (1, 3)
    if not isinstance(picture, Wide) or is_usual:
        return from_bytes(decode.row(picture, options), options.bits)
    try:
        rows = picture.rows(chosen(options.range, picture.kind), 16 if options.bits == 16 else 8)
        found: np.ndarray = block(rows[None], options, has_alpha=picture.has_alpha)[0]
        return found
    except Exception as error:
        raise decode.BadImageError(decode.reason(error)) from error


def block(images: np.ndarray, options: DataOptions, *, has_alpha: bool) -> np.ndarray:
    """Images of one size, their values as stored: (n, H, W, channels[ + 1]) => (n, height, width, channels)."""
    if images.dtype == np.uint8 and options.channels in (1, 3):
        return from_bytes(decode.block(images, options), options.bits)
    height, width, channels = limits.item_shape(options)
    flat = _converted(_composited(images, options) if has_alpha else images, channels)
    if flat.shape[1:3] == (height, width):
        return from_bytes(flat, options.bits)
    fitted = np.empty((len(flat), height, width, channels), flat.dtype)
    each = decode.of_channels(options, channels)
    for image, target in zip(flat, fitted, strict=True):
        for channel, own in enumerate(each):
            target[..., channel] = _fitted(np.ascontiguousarray(image[..., channel]), own)
    return from_bytes(fitted, options.bits)


def _fitted(channel: np.ndarray, options: DataOptions) -> np.ndarray:
    if channel.dtype == np.uint8:
        return decode.fit_channel(channel, options)
    scaled = channel.astype(np.float32)
    scaled /= _PER_BYTE  # in place: it may be large
    fitted = decode.fit_channel(scaled, options)
    return np.rint(fitted * np.float32(_PER_BYTE)).clip(0, 65535).astype(np.uint16)


def _composited(images: np.ndarray, options: DataOptions) -> np.ndarray:
    """Colours on the background, by alpha, the last channel: (n, H, W, 2 | 4) uint16 => (n, H, W, 3)."""
    behind = np.array(decode.background(options), np.uint32) * _PER_BYTE
    if images.shape[-1] == 2:
        images = images[..., [0, 0, 0, 1]]
    alpha = images[..., -1:].astype(np.uint32)
    # The largest sum is 65535 * 65535 + 32767, which fits into 32 bits.
    mixed = (images[..., :-1] * alpha + behind * (65535 - alpha) + 32767) // 65535
    return mixed.astype(np.uint16)


def _converted(images: np.ndarray, channels: int) -> np.ndarray:
    """Grey to colour, colour to grey, rounded as Pillow rounds: (n, H, W, 1 | 3 | C) uint16 => (n, H, W, C)."""
    if images.shape[-1] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=-1)
    weighted = images.astype(np.uint32) @ _LUMA  # at most 65535 * 65536
    return ((weighted + 0x8000) >> 16).astype(np.uint16)[..., None]
