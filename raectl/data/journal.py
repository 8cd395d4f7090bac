"""Packing that can be interrupted and resumed: rows are appended to a file, and a journal beside it records them.

    <entry>.partial/items.npy        a header of fixed length, then the rows
    <entry>.partial/journal.jsonl    a line per save, for the rows since the last one: their number, names and bad items

A line is written every few seconds, and when the work is interrupted, after its rows have been flushed to the disk.
What follows the last complete line is truncated on resuming. So a process killed at any moment loses seconds of work,
and the resulting bytes are the same.
"""

import contextlib
import json
import math
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from raectl.data.dataset import fingerprint
from raectl.data.limits import Bad
from raectl.storage.atomic import TEMPORARY
from raectl.storage.lock import is_same, try_lock

_SAVE_SECONDS = 5.0  # between lines of the journal


@dataclass(frozen=True)
class Block:
    """Consecutive converted items: (n, *item shape) uint8, their names if they have any, and the bad ones."""

    rows: np.ndarray
    names: tuple[str, ...] = ()
    bad: tuple[Bad, ...] = ()

    @property
    def count(self) -> int:
        return len(self.rows) + len(self.bad)


class Journal:
    """The rows written so far for one cache entry. As a context manager, it keeps them if the block is interrupted.

    If another process is packing the same entry, and on Windows, the rows are in a temporary directory and not kept.

    Arguments:
        entry: the directory that the rows are for; its parent is made.
        shape: shape of an item.
    """

    def __init__(self, entry: Path, shape: tuple[int, ...]) -> None:
        entry.parent.mkdir(parents=True, exist_ok=True)
        self._shape = shape
        self.rows, self.names, self.bad = 0, list[str](), list[Bad]()  # number and names of the rows, bad items
        self._saved = (0, 0, 0)  # how many of these three are in the journal
        self._time = time.monotonic()
        journal = _open_locked(entry.with_name(f"{entry.name}.partial"))
        self._is_kept = journal is not None
        if journal is None:
            temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=entry.parent))
            journal = open(temporary / "journal.jsonl", "w+b")  # noqa: SIM115 (closed by __exit__)
        self._journal, self._folder = journal, Path(journal.name).parent
        self._path = self._folder / "items.npy"
        self._path.touch()
        self._items = open(self._path, "r+b")  # noqa: SIM115 (closed by __exit__)

    @property
    def done(self) -> int:
        """Number of items so far, good and bad."""
        return self.rows + len(self.bad)

    def __enter__(self) -> "Journal":
        try:
            self._start = _write_header(self._items, 0, self._shape)
            self._restore()
        except OSError as error:  # the disk is full already
            self.__exit__(None, error, None)
            raise
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        interrupted = error is not None and not isinstance(error, OSError)  # on a full disk, free the space
        try:
            if interrupted:
                with contextlib.suppress(OSError):
                    self._save()
        finally:
            with contextlib.suppress(OSError):  # closing flushes, which a full disk refuses again
                self._items.close()
            if not (interrupted and self._is_kept and any(self._saved)):
                shutil.rmtree(self._folder, ignore_errors=True)
            self._journal.close()  # which releases the lock

    def append(self, block: Block) -> None:
        """Write a block's rows."""
        # Not through a memory map, in which a full disk would crash the process.
        self._items.write(np.ascontiguousarray(block.rows).data)
        self._add(len(block.rows), block.names, block.bad)
        if time.monotonic() - self._time > _SAVE_SECONDS:
            self._save()

    def move(self, path: Path) -> str:
        """Move the complete array to `path`; returns its fingerprint."""
        _write_header(self._items, self.rows, self._shape)  # as long as the one for no rows
        self._items.flush()
        with ThreadPoolExecutor(1) as pool:  # flushing takes as long as hashing
            flushed = pool.submit(os.fsync, self._items.fileno())
            sha256 = fingerprint(np.load(self._path, mmap_mode="r"))
            flushed.result()
        self._path.replace(path)
        return sha256

    def _add(self, rows: int, names: tuple[str, ...], bad: tuple[Bad, ...]) -> None:
        self.rows += rows
        self.names.extend(names)
        self.bad.extend(bad)

    def _save(self) -> None:
        """Write a journal line for what was added since the last one."""
        self._time = time.monotonic()
        (rows, names, bad), now = self._saved, (self.rows, len(self.names), len(self.bad))
        if now == self._saved:
            return
        line = {"rows": self.rows - rows, "names": self.names[names:], "bad": self.bad[bad:], "done": self.done}
        self._items.flush()
        os.fsync(self._items.fileno())
        # Updated before the line is written: an interruption in between loses the line, and never writes it twice.
        self._saved = now
        self._journal.write(json.dumps(line).encode() + b"\n")
        self._journal.flush()

    def _restore(self) -> None:
        """Restore the state of an interrupted run: all complete lines of the journal whose rows are in the file."""
        row = math.prod(self._shape)  # bytes
        written = (self._path.stat().st_size - self._start) // row
        self._journal.seek(0)
        end = 0
        for text in self._journal:
            line = _parsed(text, self.done)
            if line is None or self.rows + line[0] > written:
                break
            self._add(*line)
            end += len(text)
        self._saved = (self.rows, len(self.names), len(self.bad))
        self._journal.truncate(end)
        self._journal.seek(end)
        self._items.truncate(self._start + self.rows * row)
        self._items.seek(0, os.SEEK_END)


def _parsed(text: bytes, done: int) -> tuple[int, tuple[str, ...], tuple[Bad, ...]] | None:
    """Rows, names and bad items of a journal line; None if it is incomplete or does not continue after `done` items."""
    try:
        line = json.loads(text)
        rows, names, bad = line["rows"], tuple(line["names"]), tuple((name, reason) for name, reason in line["bad"])
        follows = done + rows + len(bad) == line["done"]
    except (ValueError, TypeError, KeyError):
        return None
    return (rows, names, bad) if follows and len(names) in (0, rows) and text.endswith(b"\n") else None


def _open_locked(folder: Path) -> BinaryIO | None:
    """The journal in `folder`, locked; None if another process has locked it, or locks are not supported."""
    try:
        folder.mkdir(exist_ok=True)
        journal = open(folder / "journal.jsonl", "a+b")  # noqa: SIM115 (returned)
    except OSError:  # its owner is removing the folder
        return None
    # The former owner may have removed the file between our opening and our locking it.
    if try_lock(journal.fileno()) and is_same(folder / "journal.jsonl", journal.fileno()):
        return journal
    journal.close()
    return None


def _write_header(file: BinaryIO, count: int, shape: tuple[int, ...]) -> int:
    """Write the `.npy` header of a uint8 array, padded so that its length, which is returned, suits any `count`."""
    file.seek(0)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)})
    return file.tell()
