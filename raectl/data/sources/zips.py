"""A zip of images, or a folder inside it; entries are read in memory, and no entry's name ever becomes a path."""

import zipfile
from pathlib import Path

from raectl.data import limits as rules
from raectl.data.base import Progress, Source
from raectl.data.dataset import Dataset
from raectl.data.images.decode import BadImageError
from raectl.data.images.files import Listing, open_pictures
from raectl.data.options import DataOptions
from raectl.data.packing import digest
from raectl.data.sources.folder import nothing_in
from raectl.errors import RaectlError


class Zip(Source):
    """`a.zip`, or `a.zip/train` for a folder inside it; otherwise as a folder of images."""

    @classmethod
    def recognises(cls, spec: str) -> bool:
        return _locate(spec) is not None

    def open(self, spec: str, options: DataOptions, progress: Progress) -> Dataset:
        located = _locate(spec)
        assert located is not None
        path, inside = located
        source = str(path / inside)
        try:
            archive = zipfile.ZipFile(path)
        except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
            raise RaectlError(f"cannot read {rules.shown(str(path))}: {error}", "it is damaged, or no zip") from error
        with archive:
            entries = _entries(archive, inside)
            if inside and not entries:
                folders = {info.filename.partition("/")[0] for info in archive.infolist() if "/" in info.filename}
                known = ", ".join(map(rules.shown, sorted(folders)[:10]))
                message = f"{rules.shown(str(path))} holds no folder {rules.shown(inside)}"
                raise RaectlError(message, f"its folders: {known}" if folders else "it has no folders")
            images = {name: info for name, info in sorted(entries.items()) if rules.is_image_name(name)}
            if not images:
                raise nothing_in(source, sorted(entries))
            bad = tuple((name, "unsafe path in the zip") for name in images if _is_unsafe(name))
            state = path.stat()
            listing = Listing(
                source=source,
                names=tuple(name for name in images if not _is_unsafe(name)),
                size=lambda name: images[name].file_size,
                read=lambda name: _read(archive, images[name]),
                state=digest(inside, state.st_size, state.st_mtime_ns, state.st_ctime_ns),
                bad=bad,
            )
            return open_pictures(listing, options, self.background, progress)


def _locate(spec: str) -> tuple[Path, str] | None:
    """The zip file that `spec` is or leads into, and the folder inside it ("" for all), or None."""
    whole = rules.absolute(spec)
    for path in (whole, *whole.parents):
        if path.suffix.lower() == ".zip" and path.is_file():
            inside = whole.relative_to(path).as_posix()
            return path, "" if inside == "." else inside
    return None


def _entries(archive: zipfile.ZipFile, inside: str) -> dict[str, zipfile.ZipInfo]:
    """Files under `inside` by their path relative to it; of equal names the last counts, as in any unpacker."""
    prefix = f"{inside}/" if inside else ""
    entries = {}
    for info in archive.infolist():
        name = info.filename.removeprefix("./")
        if name.startswith(prefix) and not info.is_dir():
            relative = name.removeprefix(prefix)
            if not any(rules.is_litter(part) for part in relative.split("/") if part != ".."):
                entries[relative] = info
    return entries


def _is_unsafe(name: str) -> bool:
    """Whether writing a file of this name somewhere, as `reconstruct` does, could leave that place."""
    parts = name.replace("\\", "/").split("/")
    return ".." in parts or parts[0] == "" or parts[0][1:2] == ":"


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.flag_bits & 0x1:
        raise BadImageError("encrypted")
    return archive.read(info)  # reads no more than file_size bytes, whatever the compressed data would give
