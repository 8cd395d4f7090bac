"""File locks, which the system releases when the process ends, so that a directory has one writer at a time.

    ckpt/.raectl.lock     locked by `train` and `fit-density` while they work; names the process
    .tmp-new-NAME         locked while it is being written; without a lock, it was left by a killed process

Where the system has no such locks (some network file systems), nothing is locked.
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

NAME = ".raectl.lock"
_MAX_OWNER = 4096  # bytes read of a lock file
_START = 1  # of the text in it: on Windows no other process can read the first byte, the one locked


def try_lock(handle: int) -> bool | None:
    """Lock an open file or directory without waiting. True if locked, False if another has it, None if unsupported."""
    from filelock import lock_descriptor  # a twentieth of a second, which a command that only reads need not wait

    try:
        return lock_descriptor(handle, blocking=False)
    except OSError:
        return None


def is_same(path: Path, handle: int) -> bool:
    """Whether `path` still names the open file or directory, which another process may have moved or removed."""
    try:
        return os.path.samestat(path.stat(follow_symlinks=False), os.fstat(handle))
    except OSError:
        return False


class Lock:
    """A lock of a directory against other writers, released when the block ends. Readers are not affected.

    Arguments:
        path: the directory.
        note: called with a warning if the file system does not support locks.

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
            if is_same(self._path / NAME, handle):  # not if another process has made its own
                with contextlib.suppress(OSError):
                    (self._path / NAME).unlink()
            os.close(handle)

    def acquire(self, directory: Path | None = None) -> None:
        """Lock the directory, or `directory`, which is about to replace it, unless it is missing or locked already.

        Raises:
            RaectlError: another process has locked it; the error names it.
        """
        file = (directory or self._path) / NAME
        while not any(is_same(file, handle) for handle in self._handles):
            handle = _open(file)
            if handle is None:
                return  # a missing or read-only directory: the next write reports it
            locked = try_lock(handle)
            if locked and is_same(file, handle):
                _write_owner(handle)
                self._handles.append(handle)
                return
            owner = _owner(handle)
            os.close(handle)
            if locked is None:
                file.unlink(missing_ok=True)
                self._note(f"{self._path} cannot be locked here: do not run two commands that write to it")
                return
            if not locked:
                hint = "wait until that has ended, or stop it; meanwhile info, sample and evaluate can read it"
                raise RaectlError(f"{self._path} is in use by {owner}", hint)


def _open(file: Path) -> int | None:
    for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):  # reading suffices to lock another user's file
        try:
            handle = os.open(file, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)
        except OSError:
            continue
        status = os.fstat(handle)
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:  # not a link to another file
            return handle
        os.close(handle)
    return None


def _write_owner(handle: int) -> None:
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    record = {"process": os.getpid(), "host": socket.gethostname(), "since": since}
    with contextlib.suppress(OSError):  # the disk is full; the lock works without the text
        os.ftruncate(handle, _START)
        os.lseek(handle, _START, os.SEEK_SET)
        os.write(handle, json.dumps(record).encode())


def _owner(handle: int) -> str:
    try:
        os.lseek(handle, _START, os.SEEK_SET)
        record = json.loads(os.read(handle, _MAX_OWNER))
        return f"process {record['process']} on {record['host']}, since {record['since']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process"
