"""PNGs of bytes that hold nothing but their pixels: libpng decodes them, without Pillow, in half the time."""

import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_CHANNELS = {b"\x08\0": 1, b"\x08\4": 2, b"\x08\2": 3, b"\x08\6": 4}  # by bits and type of colour
_END = b"\0\0\0\0IEND\xaeB`\x82"
_LARGEST = 2**22  # pixels, since they may be in memory twice


class Plain:
    """A PNG whose pixels are not decoded yet.

    Arguments:
        data: the bytes of the file.
        size: (width, height) in pixels.
        channels: 1 to 4, of grey, grey and alpha, RGB, RGB and alpha.
        opened: opens a file by Pillow, which says what is wrong with a damaged one.
    """

    frames = 1

    def __init__(
        self, data: bytes, size: tuple[int, int], channels: int, opened: Callable[[bytes], Image.Image]
    ) -> None:
        self._data, self.size, self.channels, self._opened = data, size, channels, opened
        self.colours = 1 if channels < 3 else 3

    def pixels(self) -> np.ndarray:
        """(H, W, channels) uint8."""
        from imagecodecs import png_decode

        try:
            pixels = np.asarray(png_decode(self._data))
        except Exception:  # Pillow does without checksums
            pixels = np.asarray(self._opened(self._data))
        return pixels.reshape(*self.size[::-1], self.channels)

    def image(self) -> Image.Image:
        """The same for Pillow."""
        pixels = self.pixels()
        return Image.fromarray(pixels[..., 0] if self.channels == 1 else pixels)


def of_png(data: bytes, opened: Callable[[bytes], Image.Image]) -> Plain | None:
    """A PNG; None if it is none, or not of bytes, or has a palette, or chunks that may say something of its pixels."""
    channels = _CHANNELS.get(data[24:26])
    if not channels or not data.startswith(_START) or not data.endswith(_END):
        return None
    width, height = (int.from_bytes(data[start : start + 4], "big") for start in (16, 20))
    if data[26:28] != b"\0\0" or data[28] > 1 or zlib.crc32(data[12:29]).to_bytes(4, "big") != data[29:33]:
        return None
    at = 33
    while data[at + 4 : at + 8] == b"IDAT":
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    is_plain = 33 < at == len(data) - len(_END) and 0 < width * height <= _LARGEST
    return Plain(data, (width, height), channels, opened) if is_plain else None
