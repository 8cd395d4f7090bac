"""A folder of images, flat or nested; folders in it are class labels."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from raectl.data import limits
from raectl.data.base import Source
from raectl.data.dataset import Dataset
from raectl.data.images.files import ImageFiles, open_image_files
from raectl.data.labels import LARGEST, METADATA
from raectl.data.options import DataOptions
from raectl.errors import RaectlError
from raectl.progress import Progress
from raectl.storage.cache import digest_of_many


class Folder(Source):
    """Images sorted by relative path: files with an image's suffix or first bytes; hidden ones are ignored."""

    @classmethod
    def recognises(cls, spec: str) -> bool:
        return Path(spec).is_dir()

    def open(self, spec: str, options: DataOptions, progress: Progress) -> Dataset:
        root = limits.absolute(spec)
        names, others, bad = _walk(root)
        disguised = {name for name in others if limits.is_image_content(name, _head(root / name))}
        names, others = sorted([*names, *disguised]), [name for name in others if name not in disguised]
        if not names:
            raise nothing_in(str(root), others)
        sizes: dict[str, int] = {}
        state = digest_of_many(_states(root, names, sizes, bad), bad, others)
        has_metadata = METADATA in others
        images = ImageFiles(
            source=str(root),
            names=tuple(sizes),
            size=sizes.__getitem__,
            read=lambda name: _read(f"{root}/{name}", sizes[name]),
            state=state,
            bad=tuple(bad),
            others=tuple(name for name in others if name != METADATA),
            metadata=(lambda: _metadata(root / METADATA)) if has_metadata else None,
        )
        return open_image_files(images, options, self.background, progress)


def _states(
    root: Path, names: list[str], sizes: dict[str, int], bad: list[limits.Bad]
) -> Iterator[tuple[str, int, int, int]]:
    """Name, size and times of each plain file; its size is put into `sizes`, and what is no plain file into `bad`."""
    for name in names:
        try:
            status = os.stat(f"{root}/{name}")  # noqa: PTH116 (a `Path` for each of a million files takes seconds)
        except OSError as error:  # a broken link
            bad.append((name, error.strerror or "cannot be read"))
            continue
        if stat.S_ISREG(status.st_mode):
            sizes[name] = status.st_size
            yield name, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        else:
            bad.append((name, "not a file"))  # reading a pipe could block


def _read(path: str, size: int) -> bytes:
    with open(path, "rb") as file:
        return file.read(size + 1)  # one byte more: a file that has grown gets another digest


def _metadata(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise OSError("not a file")
        if (size := path.stat().st_size) > LARGEST:
            raise OSError(f"{size:,} bytes are too many")
        return path.read_bytes()
    except OSError as error:
        message = f"cannot read {limits.shown(str(path))}: {error.strerror or error}"
        raise RaectlError(message, "it is the table of labels: repair it, or move it elsewhere") from error


def _head(path: Path) -> bytes:
    """The first bytes of a file; none of a pipe, which could block, or of what may not be read."""
    try:
        if not path.is_file():
            return b""
        with open(path, "rb") as file:
            return file.read(12)
    except OSError:
        return b""


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; the other entries are still read
        return False


def nothing_in(where: str, others: list[str]) -> RaectlError:
    """The error for a folder without images, which names the suffixes of the files that are there."""
    if not others:
        return RaectlError(
            f"{limits.shown(where)} is empty, or holds hidden files only", "a folder of images is needed"
        )
    kinds = sorted({limits.suffix(name) or "no suffix" for name in others})
    message = f"{limits.shown(where)} holds no images, only other files ({', '.join(map(limits.shown, kinds[:5]))})"
    return RaectlError(message, "images are .png, .jpg, .webp, .bmp, .gif, .tiff and the like")


def _walk(root: Path) -> tuple[list[str], list[str], list[limits.Bad]]:
    """Relative paths, with `/`, of the images and of all other files, sorted, and folders that may not be read.

    Each real directory is entered once.
    """
    images: list[str] = []
    others: list[str] = []
    closed: list[limits.Bad] = []
    entered: set[tuple[int, int]] = set()
    stack = [""]
    while stack:
        folder = stack.pop()
        try:
            state = (root / folder).stat()
            # Links may form a cycle.
            if (state.st_dev, state.st_ino) in entered:
                continue
            entered.add((state.st_dev, state.st_ino))
            with os.scandir(root / folder) as entries:
                children = sorted(
                    (entry.name, _is_folder(entry)) for entry in entries if not limits.is_litter(entry.name)
                )
        except OSError as error:
            if not folder:
                raise RaectlError(f"cannot read {limits.shown(str(root))}: {error.strerror or error}") from error
            closed.append((folder, error.strerror or "cannot be read"))
            continue
        for name, is_folder in reversed(children):  # so that the stack gives folders in their order
            if is_folder:
                stack.append(f"{folder}{name}/")
            else:
                (images if limits.is_image_name(name) else others).append(folder + name)
    return sorted(images), sorted(others), closed
