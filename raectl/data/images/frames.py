"""The frames of an image file: pages of a TIFF, frames of a GIF, PNG or WebP."""

import threading

from PIL import Image

from raectl.data.images import decode
from raectl.data.images.formats import MOST_PAGES, is_tiff, page_offsets

FIRST, ALL = "first", "all"  # which are taken
_MOST_FRAMES = 10_000  # of an animation


class Frames:
    """What is taken of a file: its first frame, or all of them.

    Arguments:
        data: the bytes of the file.
        which: `first` or `all`.

    Raises:
        BadImageError: there are too many.
    """

    def __init__(self, data: bytes, which: str) -> None:
        self.data = data
        self._pages: list[int] = []
        self._animation: Image.Image | None = None
        self._header: decode.Header | None = None
        if which == ALL:
            self._pages = page_offsets(data) if is_tiff(data) else []
            self._animation = decode.animated(data)
        frames = getattr(self._animation, "n_frames", 1)
        self._count = max(len(self._pages), frames)
        if len(self._pages) > MOST_PAGES or frames > _MOST_FRAMES:
            raise decode.BadImageError(f"more than {MOST_PAGES if self._pages else _MOST_FRAMES:,} frames")

    def __len__(self) -> int:
        return self._count

    def name(self, file: str, index: int) -> str:
        """Of a frame: that of the file, and if there are several a number from 1, `a.tif#07`, in order as text, too."""
        return file if len(self) == 1 else f"{file}#{index + 1:0{len(str(len(self)))}}"

    def picture(self, index: int) -> decode.Picture:
        """A frame; of an animation the quickest after the one before.

        Raises:
            BadImageError: it cannot be read.
        """
        if self._animation is None:
            return decode.open_picture(self.data, self._pages[index] if len(self) > 1 else None)
        try:
            self._animation.seek(index)
            return self._animation.copy()
        except Exception as error:  # decoders raise nearly anything on a hostile file
            raise decode.BadImageError(decode.reason(error)) from error

    def header(self, picture: decode.Picture) -> decode.Header:
        """Of a frame: its own, or that of the animation; it counts as one where all are taken."""
        if self._animation is not None and self._header is None:
            self._header = decode.header(decode.open_picture(self.data))
        header = self._header or decode.header(picture)
        return header if len(self) == 1 else header._replace(frames=1)


class LastFile:
    """The file of several frames that was read last, so that it is not read again for each of them.

    Its bytes are one for all threads, each of which has its own frames of them.
    """

    def __init__(self) -> None:
        self._data: tuple[bytes, bytes] = b"", b""
        self._own = threading.local()

    def get(self, digest: bytes) -> Frames | None:
        """The thread's frames of the file with this digest; None if another was read last."""
        known, frames = getattr(self._own, "last", (b"", None))
        if known == digest:
            found: Frames | None = frames
            return found
        known, data = self._data
        return self.keep(digest, Frames(data, ALL)) if known == digest else None

    def keep(self, digest: bytes, frames: Frames) -> Frames:
        """Keep frames, if they are several, and return them."""
        if len(frames) > 1:
            self._data = digest, frames.data
            self._own.last = digest, frames
        return frames

    def drop(self) -> None:
        """Drop what the thread keeps beside the bytes."""
        self._own.last = b"", None
