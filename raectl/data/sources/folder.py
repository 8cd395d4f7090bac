"""A folder of images, flat or nested; nested folders are class labels."""

import os
import stat
from pathlib import Path

from raectl.data import limits
from raectl.data.base import Source
from raectl.data.dataset import Dataset
from raectl.data.images.files import ImageFiles, open_image_files
from raectl.data.options import DataOptions
from raectl.errors import RaectlError
from raectl.progress import Progress
from raectl.storage.cache import digest


class Folder(Source):
    """Images sorted by relative path. Hidden files, and files with no suffix of an image, are not looked at."""

    @classmethod
    def recognises(cls, spec: str) -> bool:
        return Path(spec).is_dir()

    def open(self, spec: str, options: DataOptions, progress: Progress) -> Dataset:
        root = limits.absolute(spec)
        names, others = _walk(root)
        if not names:
            raise nothing_in(str(root), others)
        states: list[tuple[str, int, int, int]] = []
        sizes: dict[str, int] = {}
        bad: list[limits.Bad] = []
        for name in names:
            try:
                state = (root / name).stat()
            except OSError as error:  # a link into nowhere
                bad.append((name, error.strerror or "cannot be read"))
                continue
            if stat.S_ISREG(state.st_mode):
                states.append((name, state.st_size, state.st_mtime_ns, state.st_ctime_ns))
                sizes[name] = state.st_size
            else:
                bad.append((name, "not a file"))  # reading a pipe could wait for ever
        images = ImageFiles(
            source=str(root),
            names=tuple(sizes),
            size=sizes.__getitem__,
            read=lambda name: _read(root / name, sizes[name]),
            state=digest(states, bad),
            bad=tuple(bad),
        )
        return open_image_files(images, options, self.background, progress)


def _read(path: Path, size: int) -> bytes:
    with open(path, "rb") as file:
        return file.read(size + 1)  # one that has grown is seen to be another, however large it has become


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, which is no reason not to read the others
        return False


def nothing_in(where: str, others: list[str]) -> RaectlError:
    """The error for a folder without images, which says what is there instead."""
    if not others:
        return RaectlError(f"{limits.shown(where)} is empty", "a folder of images is needed")
    kinds = sorted({limits.suffix(name) or "no suffix" for name in others})
    message = f"{limits.shown(where)} holds no images, only other files ({', '.join(map(limits.shown, kinds[:5]))})"
    return RaectlError(message, "images are .png, .jpg, .webp, .bmp, .gif, .tiff and the like")


def _walk(root: Path) -> tuple[list[str], list[str]]:
    """Relative paths with `/` of the images and of all other files, sorted; each real directory is entered once."""
    images: list[str] = []
    others: list[str] = []
    entered: set[tuple[int, int]] = set()
    left = [""]
    while left:
        folder = left.pop()
        try:
            state = (root / folder).stat()
            # Links may lead back up. Going by the directory itself ends that.
            if (state.st_dev, state.st_ino) in entered:
                continue
            entered.add((state.st_dev, state.st_ino))
            with os.scandir(root / folder) as entries:
                found = sorted((entry.name, _is_folder(entry)) for entry in entries if not limits.is_litter(entry.name))
        except OSError as error:
            raise RaectlError(f"cannot read {limits.shown(str(root / folder))}: {error.strerror or error}") from error
        # The stack is emptied from its end, so folders go onto it in reverse.
        left.extend(f"{folder}{name}/" for name, is_folder in reversed(found) if is_folder)
        for name, is_folder in found:
            if not is_folder:
                (images if limits.is_image_name(name) else others).append(folder + name)
    return sorted(images), sorted(others)
