"""Files that are whole or absent: atomic writes, digests, JSON and safetensors that are checked before use.

A write goes to a temporary name beside its target, is flushed to the disk, renamed, and the directory is flushed:
a process killed at any moment leaves the former file or the new one. Temporary names start with `.tmp-`; what a
killed process left of them is removed by `sweep`, or brought back by `recover`.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raectl.errors import RaectlError, command

if TYPE_CHECKING:
    import numpy as np

TEMPORARY = ".tmp-"
_OLD = f"{TEMPORARY}old-"
_METADATA = "raectl"  # key of the one entry in which a safetensors file's metadata are kept
_MAX_JSON = 16 * 2**20  # bytes; ours are a few kilobytes, and a hostile one must not eat the machine


def _flush(path: Path) -> None:
    """Have a file, or a directory's entries, on the disk before anything that follows."""
    if path.is_file() or os.name == "posix":
        handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)  # Windows flushes only what it may write
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _flush_directory(path: Path) -> None:
    with contextlib.suppress(OSError):  # the rename is done; some network file systems refuse to flush a directory
        _flush(path)


def require_parent(path: Path) -> None:
    """Raise unless the directory that `path` would be written into exists."""
    if not path.parent.is_dir():
        raise RaectlError(f"{path}: the directory {path.parent} does not exist", command("mkdir", "-p", path.parent))


def require_outside(path: Path, source: str) -> None:
    """Raise if writing `path` would replace or join the data in the folder or file `source`."""
    data = Path(source).resolve()
    if data in (path.resolve(), *path.resolve().parents):
        raise RaectlError(f"{path} lies in the data {source}, which are not to be changed", "choose another --out")


@contextlib.contextmanager
def describing_os_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` met while writing `path` (disk full, read-only, vanished) into a clear error."""
    try:
        yield
    except OSError as error:
        hint = "free some space, or write to another place; what was there before is unchanged"
        raise RaectlError(f"cannot write {path}: {error.strerror or error}", hint) from error


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path to write to, which becomes `path` in one rename if the block succeeds.

    Raises:
        RaectlError: the parent is missing, or the system refuses the write; `path` is then as it was.
    """
    require_parent(path)
    with describing_os_errors(path):
        # The suffix is kept because writers such as PIL choose the format by it.
        handle, name = tempfile.mkstemp(prefix=TEMPORARY, suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            _flush(temporary)
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
            _flush_directory(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """A temporary directory to fill, which takes the place of `path` (and of what was there) if the block succeeds.

    A directory cannot be exchanged in one step everywhere, so a former one is moved to `.tmp-old-NAME` first. An error
    between the two renames moves it back; after a kill between them, `recover` does.
    """
    require_parent(path)
    with describing_os_errors(path):
        recover(path)
        temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=path.parent))
        try:
            yield temporary
            for entry in (*temporary.rglob("*"), temporary):
                _flush(entry)
            temporary.chmod(0o777 & ~_umask())
            if path.exists():
                path.replace(_former(path))
            temporary.replace(path)
            _flush_directory(path.parent)
        except BaseException:
            recover(path)
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(_former(path), ignore_errors=True)


def _former(path: Path) -> Path:
    return path.parent / f"{_OLD}{path.name}"


def recover(path: Path) -> None:
    """Bring back the directory that a killed process was about to replace, if it got no further than moving it away."""
    if not path.exists() and _former(path).is_dir():
        with contextlib.suppress(OSError):  # a read-only disk: it stays where it is
            _former(path).replace(path)


def sweep(directory: Path) -> None:
    """Remove what a killed process left half-written in `directory`, after bringing back what it was replacing."""
    recover_all(directory)
    for left in directory.glob(f"{TEMPORARY}*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def recover_all(directory: Path) -> None:
    """`recover` for every directory in `directory`."""
    for left in directory.glob(f"{_OLD}*"):
        recover(directory / left.name.removeprefix(_OLD))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write `text` atomically, as UTF-8."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` atomically as JSON that a person can read. NaN and infinities are refused: JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        RaectlError: it is missing, unreadable, larger than any of ours, or no JSON.
    """
    try:
        if path.stat().st_size > _MAX_JSON:
            raise RaectlError(f"{path} is {path.stat().st_size:,} bytes, too large to be one of raectl's JSON files")
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RaectlError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise RaectlError(f"{path} is not valid JSON: {error}") from error


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RaectlError(f"cannot read {path}: {error.strerror or error}") from error


def _content_digest(arrays: "Mapping[str, np.ndarray]", metadata: Mapping[str, str]) -> str:
    import numpy as np

    digest = hashlib.sha256()
    for key in sorted(metadata):
        digest.update(f"{key}={metadata[key]}\n".encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}:{array.dtype.str}:{array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)  # a 0-axis array becomes one of 1 axis: the same bytes
    return digest.hexdigest()


def dump_arrays(path: Path, arrays: "Mapping[str, np.ndarray]", metadata: Mapping[str, str]) -> None:
    """Write named NumPy arrays and text metadata as one safetensors file, into a temporary or new file.

    The metadata gain a `digest`, the SHA-256 of all names, types, shapes, values and the other metadata, which
    `read_arrays` checks: safetensors itself does not notice a flipped bit.
    """
    import numpy as np
    from safetensors.numpy import save

    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    record = {**metadata, "digest": _content_digest(arrays, metadata)}
    # One entry, because safetensors writes several in another order every time; and written by Python, because
    # safetensors' own writer reports a full disk by an error that is no OSError.
    path.write_bytes(save(arrays, {_METADATA: json.dumps(record, sort_keys=True)}))


def write_arrays(path: Path, arrays: "Mapping[str, np.ndarray]", metadata: Mapping[str, str]) -> None:
    """`dump_arrays`, atomically."""
    with atomic_file(path) as temporary:
        dump_arrays(temporary, arrays, metadata)


def read_arrays(path: Path) -> "tuple[dict[str, np.ndarray], dict[str, str]]":
    """Read what `dump_arrays` wrote: named NumPy arrays, and the metadata without the digest.

    Raises:
        RaectlError: the file is missing, no safetensors file, or not what was written.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            metadata: dict[str, str] = json.loads((file.metadata() or {})[_METADATA])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
        raise RaectlError(f"cannot read {path}: {error}", "the file is missing, cut short or damaged") from error
    if metadata.pop("digest", None) != _content_digest(arrays, metadata):
        raise RaectlError(f"{path} is damaged: its content does not match its digest", "restore it from a copy")
    return arrays, metadata
