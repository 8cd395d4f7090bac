"""A single TIFF of several pages, each an item."""

import mmap
from dataclasses import replace
from pathlib import Path

from raectl.data import limits
from raectl.data.base import Source
from raectl.data.dataset import Dataset
from raectl.data.images.files import ImageFiles, open_image_files
from raectl.data.images.formats import page_offsets
from raectl.data.images.frames import ALL
from raectl.data.options import DataOptions
from raectl.progress import Progress
from raectl.storage.cache import file_state


class Pages(Source):
    """A TIFF of two pages at least; one of a single page is a single image."""

    @classmethod
    def recognises(cls, spec: str) -> bool:
        path = Path(spec)
        if not path.is_file() or path.stat().st_size < 8:
            return False
        with open(path, "rb") as file:
            if not limits.is_image_content(path.name, head := file.read(12)) or not head.startswith(limits.TIFF):
                return False
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data, memoryview(data) as view:
                return len(page_offsets(view, most=2)) > 1

    def open(self, spec: str, options: DataOptions, progress: Progress) -> Dataset:
        path = limits.absolute(spec)
        size = path.stat().st_size
        files = ImageFiles(
            source=str(path),
            names=(path.name,),
            size=lambda _: size,
            read=lambda _: path.read_bytes(),
            state=file_state(path),
        )
        return open_image_files(files, replace(options, frames=ALL), self.background, progress)
