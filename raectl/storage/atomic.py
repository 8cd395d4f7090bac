"""Files that are whole or absent: atomic writes, digests, and safetensors that are checked before use.

A write goes to a temporary name beside its target, is flushed to the disk, renamed, and the directory is flushed:
a process killed at any moment leaves the former file or the new one. Temporary names start with `.tmp-`; what a
killed process left is overwritten by the next write of the same target, removed by `sweep`, or brought back by
`recover`. A process locks its temporaries while it writes them, so that none is taken from a living one.
"""

import contextlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raectl.errors import RaectlError, command
from raectl.storage import lock

if TYPE_CHECKING:
    pass

TEMPORARY = ".tmp-"
_OLD, _NEW = f"{TEMPORARY}old-", f"{TEMPORARY}new-"
_METADATA = "raectl"  # key of the one entry in which a safetensors file's metadata are kept
_MAX_HEADER = 4 * 2**20  # bytes; ours have a few thousand
_EXCHANGE = 1.0  # seconds that a living process may take between two renames


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
        if isinstance(error, FileNotFoundError):  # `path.parent` was there: whoever removes it may not be done yet
            raise vanished(path.parent) from error
        hint = "free some space, or write to another place; what was there before is unchanged"
        raise RaectlError(f"cannot write {path}: {error.strerror or error}", hint) from error


def vanished(directory: Path) -> RaectlError:
    """The error for a directory that was there before."""
    return RaectlError(
        f"{directory} has vanished, or is being removed", "a directory must stay where it is while raectl writes to it"
    )


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path to write to, which becomes `path` in one rename if the block succeeds.

    Raises:
        RaectlError: the parent is missing, or the system refuses the write; `path` is then as it was.
    """
    require_parent(path)
    with describing_os_errors(path), _new_file(path) as temporary:
        yield temporary
        _flush(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        _flush_directory(path.parent)


@contextlib.contextmanager
def atomic_directory(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """A temporary directory to fill, which takes the place of `path` (and of what was there) if the block succeeds.

    A directory cannot be exchanged in one step everywhere, so a former one is moved to `.tmp-old-NAME` first. An error
    between the two renames moves it back; after a kill between them, `recover` does.

    Arguments:
        replace: whether a directory that is not empty may be there; if not, one that comes there meanwhile stays.
    """
    require_parent(path)
    with describing_os_errors(path), _new_directory(path) as temporary:
        recover(path)
        try:
            yield temporary
            for entry in (*temporary.rglob("*"), temporary):
                _flush(entry)
            temporary.chmod(0o777 & ~_umask())
            _exchange(temporary, path, replace=replace)
            _flush_directory(path.parent)
        except BaseException:
            recover(path)
            raise
        shutil.rmtree(_former(path), ignore_errors=True)


def _exchange(temporary: Path, path: Path, *, replace: bool) -> None:
    if replace and path.exists():
        shutil.rmtree(_former(path), ignore_errors=True)  # of a process killed when all but this was done
        with _try_locked(path):  # `recover` shall not take it for what a killed process left
            path.replace(_former(path))
            temporary.replace(path)
        return
    with contextlib.suppress(OSError):
        path.rmdir()  # goes if it is empty: not every system renames onto a directory
    temporary.replace(path)


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`: the one that a killed process left, or a new one, gone when the block ends."""
    temporary = path.parent / f"{_NEW}{path.name}"
    handle = _claim(temporary)
    if handle is None:
        # The suffix is kept because writers such as PIL choose the format by it.
        handle, name = tempfile.mkstemp(prefix=TEMPORARY, suffix=path.suffix, dir=path.parent)
        temporary = Path(name)
        lock.try_lock(handle)
    if not lock.AVAILABLE:
        os.close(handle)  # Windows renames no open file
    try:
        yield temporary
    finally:
        # Not if it was renamed: another process may have made its own meanwhile.
        if not lock.AVAILABLE or lock.is_same(temporary, handle):
            temporary.unlink(missing_ok=True)
        if lock.AVAILABLE:
            os.close(handle)


def _claim(temporary: Path) -> int | None:
    """Open a temporary file and empty it, if it can be locked: a plain one that no living process writes."""
    if not lock.AVAILABLE:
        return None
    try:
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError:  # the name is too long, or something else is there
        return None
    status = os.fstat(handle)
    # A second name of the file would be somebody's whose it is.
    held = lock.try_lock(handle) if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 else False
    if held and lock.is_same(temporary, handle):
        os.ftruncate(handle, 0)
        return handle
    if held is None:
        temporary.unlink(missing_ok=True)
    os.close(handle)
    return None


@contextlib.contextmanager
def _new_directory(path: Path) -> Iterator[Path]:
    """A temporary directory beside `path`, in the place of one that a killed process left."""
    temporary = path.parent / f"{_NEW}{path.name}"
    try:
        _discard(temporary)
        temporary.mkdir(0o700)
    except OSError:  # a living process writes the same directory, or the name is too long
        temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=path.parent))
    with _try_locked(temporary):
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _try_locked(path: Path) -> Iterator[bool | None]:
    """A file or directory locked while the block runs: whether it is, None where that cannot be said."""
    try:
        if not lock.AVAILABLE:
            raise NotImplementedError
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except (OSError, NotImplementedError):
        yield None
        return
    try:
        yield lock.try_lock(handle)
    finally:
        os.close(handle)


def _discard(left: Path) -> None:
    """Remove something temporary, unless a living process writes it."""
    with _try_locked(left) as free:
        if free is False:
            return
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                left.unlink()


def _former(path: Path) -> Path:
    return path.parent / f"{_OLD}{path.name}"


def recover(path: Path) -> None:
    """Bring back the directory that a killed process was about to replace, if it got no further than moving it away."""
    former, deadline = _former(path), time.monotonic() + _EXCHANGE
    while not path.exists() and former.is_dir() and time.monotonic() < deadline:
        with _try_locked(former) as free, contextlib.suppress(OSError):  # a read-only disk: it stays where it is
            if free is not False:
                former.replace(path)
                return
        time.sleep(0.01)  # a living process is between its two renames


def remove_temporaries(directory: Path) -> None:
    """Remove what a killed process left half-written in `directory`, after bringing back what it was replacing."""
    recover_all(directory)
    for left in directory.glob(f"{TEMPORARY}*"):
        _discard(left)


def remove_temporaries_of(path: Path) -> None:
    """Remove what a killed process left of writing `path` itself, after bringing back what it was replacing."""
    recover(path)
    for prefix in (_OLD, _NEW):
        _discard(path.parent / f"{prefix}{path.name}")


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
