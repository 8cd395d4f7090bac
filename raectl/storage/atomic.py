"""Atomic writes of files and directories: a process killed at any moment leaves the former content or the new one.

A write goes to a temporary name beside its target (`.tmp-...`), is flushed to the disk and renamed. A process locks its
temporaries; those of a killed process are overwritten by the next write of the same target, or removed by
`remove_temporaries`, and a directory that it was replacing is restored by `recover`.
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
from typing import Any

from raectl.errors import RaectlError, command
from raectl.storage import lock

TEMPORARY = ".tmp-"
_OLD, _NEW = f"{TEMPORARY}old-", f"{TEMPORARY}new-"
_IS_POSIX = os.name == "posix"  # Windows neither opens directories nor renames open files
_EXCHANGE = 1.0  # seconds that a living process may take between its two renames


def _flush(path: Path) -> None:
    """Flush a file, or a directory's entries, to the disk."""
    if path.is_file() or _IS_POSIX:
        handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)  # Windows flushes writable files only
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _flush_directory(path: Path) -> None:
    with contextlib.suppress(OSError):  # some network file systems refuse to flush a directory
        _flush(path)


def require_parent(path: Path) -> None:
    """Raise a `RaectlError` unless the parent directory of `path` exists."""
    if not path.parent.is_dir():
        raise RaectlError(f"{path}: the directory {path.parent} does not exist", command("mkdir", "-p", path.parent))


def require_outside(path: Path, source: str) -> None:
    """Raise a `RaectlError` if `path` is, or lies in, the data folder or file `source`."""
    data = Path(source).resolve()
    if data in (path.resolve(), *path.resolve().parents):
        raise RaectlError(f"{path} lies in the data {source}, which are not to be changed", "choose another --out")


@contextlib.contextmanager
def describing_os_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` while `path` is written (disk full, read-only, vanished) into a `RaectlError`."""
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError):  # the parent, which did exist, may be half removed
            raise vanished(path.parent) from error
        hint = "free some space, or write to another place; what was there before is unchanged"
        raise RaectlError(f"cannot write {path}: {error.strerror or error}", hint) from error


def vanished(directory: Path) -> RaectlError:
    """The error for a directory that existed before."""
    hint = "a directory must stay where it is while raectl writes to it"
    return RaectlError(f"{directory} has vanished, or is being removed", hint)


@contextlib.contextmanager
def staying(directory: Path) -> Iterator[None]:
    """Say that `directory`, which existed before, has vanished, instead of an error that this led to."""
    try:
        yield
    except RaectlError as error:
        if directory.is_dir():
            raise
        raise vanished(directory) from error


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path to write to, which is renamed to `path` if the block succeeds.

    Raises:
        RaectlError: the parent is missing, or the system refuses the write; `path` is then unchanged.
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
    """A temporary directory to fill, which replaces `path` if the block succeeds.

    Not every system can exchange two directories in one step, so the former one is moved to `.tmp-old-NAME` first. An
    error between the two renames moves it back; after a kill between them, `recover` does.

    Arguments:
        replace: whether `path` may be a directory that is not empty.
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
        shutil.rmtree(_former(path), ignore_errors=True)  # left by a process killed just before removing it
        with _try_locked(path):  # so that another process's `recover` leaves it alone
            path.replace(_former(path))
            temporary.replace(path)
        return
    with contextlib.suppress(OSError):
        path.rmdir()  # only if empty; not every system renames onto a directory
    temporary.replace(path)


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[Path]:
    """A locked temporary file beside `path`, removed when the block ends; the one of a killed process is reused."""
    temporary = path.parent / f"{_NEW}{path.name}"
    handle = _claim(temporary)
    if handle is None:
        # With the suffix, by which writers such as PIL choose the format.
        handle, name = tempfile.mkstemp(prefix=TEMPORARY, suffix=path.suffix, dir=path.parent)
        temporary = Path(name)
        lock.try_lock(handle)
    if not _IS_POSIX:
        os.close(handle)
    try:
        yield temporary
    finally:
        # Unless it was renamed: another process may have made one of this name since.
        if not _IS_POSIX or lock.is_same(temporary, handle):
            temporary.unlink(missing_ok=True)
        if _IS_POSIX:
            os.close(handle)


def _claim(temporary: Path) -> int | None:
    """Open, lock and empty a temporary file; None if a living process has locked it or it is not a plain file."""
    if not _IS_POSIX:
        return None
    try:
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError:  # the name is too long, or not a file's
        return None
    status = os.fstat(handle)
    # A file with a second hard link is not a temporary of ours.
    locked = lock.try_lock(handle) if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 else False
    if locked and lock.is_same(temporary, handle):
        os.ftruncate(handle, 0)
        return handle
    if locked is None:
        temporary.unlink(missing_ok=True)
    os.close(handle)
    return None


@contextlib.contextmanager
def _new_directory(path: Path) -> Iterator[Path]:
    """A locked temporary directory beside `path`, removed when the block ends; replaces that of a killed process."""
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
    """Try to lock a file or directory while the block runs; yields whether it is locked, None if that is unknown."""
    handle = None
    if _IS_POSIX:
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    if handle is None:
        yield None
        return
    try:
        yield lock.try_lock(handle)
    finally:
        os.close(handle)


def _discard(temporary: Path) -> None:
    """Remove a temporary file or directory, unless a living process has locked it."""
    with _try_locked(temporary) as free, contextlib.suppress(OSError):
        if free is not False and temporary.is_dir() and not temporary.is_symlink():
            shutil.rmtree(temporary, ignore_errors=True)
        elif free is not False:
            temporary.unlink()


def _former(path: Path) -> Path:
    return path.parent / f"{_OLD}{path.name}"


def recover(path: Path) -> None:
    """Restore the directory that a killed process had moved away to replace it, if it has not been replaced."""
    former, deadline = _former(path), time.monotonic() + _EXCHANGE
    while not path.exists() and former.is_dir() and time.monotonic() < deadline:
        with _try_locked(former) as free, contextlib.suppress(OSError):  # on a read-only disk it stays
            if free is not False:
                former.replace(path)
                return
        time.sleep(0.01)  # a living process may be between its two renames


def remove_temporaries(directory: Path) -> None:
    """Remove the temporaries of killed processes in `directory`, after `recover_all`."""
    recover_all(directory)
    for temporary in directory.glob(f"{TEMPORARY}*"):
        _discard(temporary)


def remove_temporaries_of(path: Path) -> None:
    """Call `recover(path)`, then remove the temporary files of a process that was killed while writing `path`."""
    recover(path)
    for prefix in (_OLD, _NEW):
        _discard(path.parent / f"{prefix}{path.name}")


def recover_all(directory: Path) -> None:
    """`recover` for every directory in `directory`."""
    for former in directory.glob(f"{_OLD}*"):
        recover(directory / former.name.removeprefix(_OLD))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write `text` atomically, as UTF-8."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` atomically as indented JSON. Raises a `ValueError` for NaN and infinities, which JSON has not."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
