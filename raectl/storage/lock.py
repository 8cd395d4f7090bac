"""One writer at a time: locks that end with the process that holds them, however it ends (flock).

    ckpt/.raectl.lock     held by `train` and `fit-density` while they work; says who holds it
    .tmp-new-NAME         locked while it is being written, so that one that nobody locks is known to be left over

A killed process leaves its file and no lock: the next one takes the file over. Where the system keeps no such locks
(Windows, some network file systems) nothing is locked.
"""

import contextlib
import json
import os
import socket
import stat
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from raectl.errors import RaectlError

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # Windows
    AVAILABLE = False
else:
    AVAILABLE = True

NAME = ".raectl.lock"
_MAX_OWNER = 4096  # bytes read of what a lock's file says


def try_lock(handle: int) -> bool | None:
    """Lock an open file or directory without waiting: whether it is ours now, None where nothing can be locked."""
    if not AVAILABLE:
        return None
    try:
        flock(handle, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def is_same(path: Path, handle: int) -> bool:
    """Whether `path` still names the open file or directory, which another process may have moved or removed."""
    try:
        return os.path.samestat(path.stat(follow_symlinks=False), os.fstat(handle))
    except OSError:
        return False


class Lock:
    """Keeps other writers out of a directory until the block ends. Readers take no notice of it.

    Arguments:
        path: the directory.
        note: is told of a file system that keeps no locks.

    Example:
        >>> with Lock(Path("ckpt"), print) as lock:                       # doctest: +SKIP
        ...     lock.acquire()
    """

    def __init__(self, path: Path, note: Callable[[str], None]) -> None:
        self._path, self._note = path, note
        self._handles: list[int] = []

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_: object) -> None:
        while self._handles:
            handle = self._handles.pop()
            if is_same(self._path / NAME, handle):  # while it is still ours, so that nobody else's is removed
                with contextlib.suppress(OSError):
                    (self._path / NAME).unlink()
            os.close(handle)

    def acquire(self, directory: Path | None = None) -> None:
        """Lock the directory, or one that is about to take its place, if it is there and not ours yet.

        Raises:
            RaectlError: another process holds it; the error says which, and since when.
        """
        file = (directory or self._path) / NAME
        while not any(is_same(file, handle) for handle in self._handles):
            handle = _open(file)
            if handle is None:
                return  # no directory, or none to be written to: whoever writes to it next will be told
            held = try_lock(handle)
            if held and is_same(file, handle):
                _write_owner(handle)
                self._handles.append(handle)
                return
            owner = _owner(handle)
            os.close(handle)
            if held is None:
                file.unlink(missing_ok=True)
                self._note(f"{self._path} cannot be locked here: let no two commands write to it at once")
                return
            if not held:
                raise RaectlError(
                    f"{self._path} is in use by {owner}",
                    "wait until that has ended, or stop it; meanwhile info, sample and evaluate can read it",
                )


def _open(file: Path) -> int | None:
    for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):  # another user's can be read, which suffices to lock it
        try:
            handle = os.open(file, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)
        except OSError:
            continue
        status = os.fstat(handle)
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:  # a second name would be of another's file
            return handle
        os.close(handle)
    return None


def _write_owner(handle: int) -> None:
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    record = {"process": os.getpid(), "host": socket.gethostname(), "since": since}
    with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(record).encode(), 0)


def _owner(handle: int) -> str:
    try:
        record = json.loads(os.pread(handle, _MAX_OWNER, 0))
        return f"process {record['process']} on {record['host']}, since {record['since']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process"
