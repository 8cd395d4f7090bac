"""A zip of images, or a folder inside it. Entries are read in memory, never extracted to the disk."""

import zipfile
from pathlib import Path

from raectl.data import limits
from raectl.data.base import Source
from raectl.data.dataset import Dataset
from raectl.data.images.decode import BadImageError
from raectl.data.images.files import ImageFiles, open_image_files
from raectl.data.labels import LARGEST, METADATA
from raectl.data.options import DataOptions
from raectl.data.sources.folder import nothing_in
from raectl.errors import RaectlError
from raectl.progress import Progress
from raectl.storage.cache import digest


class Zip(Source):
    """`a.zip`, or `a.zip/train` for a folder inside it; treated like a folder of images."""

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
            raise RaectlError(
                f"cannot read {limits.shown(str(path))}: {error}", "it is damaged, or not a zip"
            ) from error
        with archive:
            entries = _entries(archive, inside)
            if inside and not entries:
                folders = {info.filename.partition("/")[0] for info in archive.infolist() if "/" in info.filename}
                known = ", ".join(map(limits.shown, sorted(folders)[:10]))
                message = f"{limits.shown(str(path))} holds no folder {limits.shown(inside)}"
                raise RaectlError(message, f"its folders: {known}" if folders else "it has no folders")
            members = {name: info for name, info in sorted(entries.items()) if _is_image(archive, name, info)}
            others = tuple(name for name in sorted(entries) if name not in members and name != METADATA)
            if not members:
                raise nothing_in(source, [*others])
            status = path.stat()
            images = ImageFiles(
                source=source,
                names=tuple(name for name in members if not _is_unsafe(name)),
                size=lambda name: members[name].file_size,
                read=lambda name: _read(archive, members[name]),
                state=digest(inside, status.st_size, status.st_mtime_ns, status.st_ctime_ns),
                bad=tuple((name, "unsafe path in the zip") for name in members if _is_unsafe(name)),
                others=others,
                metadata=(lambda: _metadata(archive, entries[METADATA], source)) if METADATA in entries else None,
            )
            return open_image_files(images, options, self.background, progress)


def _locate(spec: str) -> tuple[Path, str] | None:
    """The zip file that `spec` is or leads into, and the folder inside it ("" for all), or None."""
    whole = limits.absolute(spec)
    for path in (whole, *whole.parents):
        if path.suffix.lower() == ".zip" and path.is_file():
            inside = whole.relative_to(path).as_posix()
            return path, "" if inside == "." else inside
    return None


def _entries(archive: zipfile.ZipFile, inside: str) -> dict[str, zipfile.ZipInfo]:
    """Files under `inside`, by their path relative to it; of equal names, the last."""
    prefix = f"{inside}/" if inside else ""
    entries = {}
    for info in archive.infolist():
        name = info.filename.removeprefix("./")
        if name.startswith(prefix) and not info.is_dir():
            relative = name.removeprefix(prefix)
            if not any(limits.is_litter(part) for part in relative.split("/") if part != ".."):
                entries[relative] = info
    return entries


def _is_image(archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo) -> bool:
    """Whether an entry has an image's suffix or first bytes."""
    if limits.is_image_name(name):
        return True
    try:
        with archive.open(info) as file:
            return limits.is_image_content(name, file.read(12))
    except Exception:  # encrypted, damaged, or of an exotic compression
        return False


def _is_unsafe(name: str) -> bool:
    """Whether writing a file of this name into a folder, as `reconstruct` does, could leave the folder."""
    parts = name.replace("\\", "/").split("/")
    return ".." in parts or parts[0] == "" or parts[0][1:2] == ":"


def _metadata(archive: zipfile.ZipFile, info: zipfile.ZipInfo, source: str) -> bytes:
    try:
        if info.file_size > LARGEST:
            raise OSError(f"{info.file_size:,} bytes are too many")
        return _read(archive, info)
    except Exception as error:  # encrypted, damaged, or of an exotic compression
        message = f"cannot read {limits.shown(source)}/{METADATA}: {error}"
        raise RaectlError(message, "it is the table of labels: repair it, or take it out of the zip") from error


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.flag_bits & 0x1:
        raise BadImageError("encrypted")
    return archive.read(info)  # at most file_size bytes, whatever the compressed data are
