"""Packing that can be interrupted: rows are appended to a file, and a journal beside it says what they are.

    <entry>.partial/items.npy        a header with room for the number of rows, then the rows
    <entry>.partial/journal.jsonl    a line for the rows since the last one: names, bad items, rows and items so far

A line is written when the rows that it speaks of are on the disk, every few seconds and when the work is interrupted.
Whatever lies after the last whole line is cut off, so a process killed at any moment costs seconds of work and the
bytes in the end are the same.
"""

import contextlib
import json
import math
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from raectl.data.dataset import fingerprint
from raectl.data.limits import Bad
from raectl.storage.atomic import TEMPORARY

_SAVE_SECONDS = 5.0  # between lines of the journal


@dataclass(frozen=True)
class Block:
    """Some converted items in their order: (n, *item shape) uint8, their names if they have any, and the bad ones."""

    rows: np.ndarray
    names: tuple[str, ...] = ()
    bad: tuple[Bad, ...] = ()

    @property
    def count(self) -> int:
        return len(self.rows) + len(self.bad)


@dataclass(frozen=True)
class _Record:
    """What is remembered of blocks."""

    rows: int
    names: tuple[str, ...]
    bad: tuple[Bad, ...]


class Journal:
    """The rows of one entry of the cache, so far. Use as a context: what was done is kept if the work is interrupted.

    Where another process is at the same entry, and on Windows, it is a temporary directory that nobody goes on with.

    Arguments:
        entry: the directory that the rows are for; its parent exists.
        shape: of an item.
    """

    def __init__(self, entry: Path, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._records: list[_Record] = []
        self._journalled = 0  # how many of the records the journal has
        self._time = time.monotonic()
        found = _claimed(entry.with_name(f"{entry.name}.partial"))
        self._is_kept = found is not None
        if found is None:
            temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=entry.parent))
            found = open(temporary / "journal.jsonl", "w+b")  # noqa: SIM115 (closed by __exit__)
        self._journal, self._folder = found, Path(found.name).parent
        self._path = self._folder / "items.npy"
        self._path.touch()
        self._items = open(self._path, "r+b")  # noqa: SIM115 (closed by __exit__)

    @property
    def names(self) -> list[str]:
        return [name for record in self._records for name in record.names]

    @property
    def bad(self) -> list[Bad]:
        return [bad for record in self._records for bad in record.bad]

    @property
    def done(self) -> int:
        """Number of items so far, good and bad."""
        return sum(record.rows + len(record.bad) for record in self._records)

    def __enter__(self) -> "Journal":
        try:
            self._start = _write_header(self._items, 0, self._shape)
            self._recall()
        except OSError as error:  # the disk is full already
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        interrupted = value is not None and not isinstance(value, OSError)  # a full disk gets its space back
        try:
            if interrupted:
                with contextlib.suppress(OSError):
                    self._save()
        finally:
            with contextlib.suppress(OSError):  # which writes what a full disk has just refused
                self._items.close()
            if not (interrupted and self._is_kept and self._journalled):
                shutil.rmtree(self._folder, ignore_errors=True)
            self._journal.close()  # and lets go of the lock

    def append(self, block: Block) -> None:
        """Write a block's rows."""
        # As a stream and not through a memory map: a full disk is then an error and no crash.
        self._items.write(np.ascontiguousarray(block.rows).data)
        self._records.append(_Record(len(block.rows), block.names, block.bad))
        if time.monotonic() - self._time > _SAVE_SECONDS:
            self._save()

    def take(self, path: Path) -> str:
        """Move the whole array to `path`; its fingerprint."""
        assert _write_header(self._items, self._rows(), self._shape) == self._start
        self._items.flush()
        with ThreadPoolExecutor(1) as pool:  # the disk needs as long as the hash
            flushed = pool.submit(os.fsync, self._items.fileno())
            found = fingerprint(np.load(self._path, mmap_mode="r"))
            flushed.result()
        self._path.replace(path)
        return found

    def _rows(self) -> int:
        return sum(record.rows for record in self._records)

    def _save(self) -> None:
        """Bring the journal up to date."""
        self._time = time.monotonic()
        new, done = self._records[self._journalled :], self.done
        if not new:
            return
        self._items.flush()
        os.fsync(self._items.fileno())
        # Counted before it is written: an interruption in between loses the line, and never writes it twice.
        self._journalled = len(self._records)
        line = {
            "rows": sum(record.rows for record in new),
            "names": [name for record in new for name in record.names],
            "bad": [bad for record in new for bad in record.bad],
            "done": done,
        }
        self._journal.write(json.dumps(line).encode() + b"\n")
        self._journal.flush()

    def _recall(self) -> None:
        """Take up what an interrupted run left: all whole lines of the journal whose rows are there."""
        row = math.prod(self._shape)
        room = (self._path.stat().st_size - self._start) // row
        self._journal.seek(0)
        end = 0
        for text in self._journal:
            record = _record(text, self.done)
            if record is None or record.rows + self._rows() > room:
                break
            self._records.append(record)
            end += len(text)
        self._journalled = len(self._records)
        self._journal.truncate(end)
        self._journal.seek(end)
        self._items.truncate(self._start + self._rows() * row)
        self._items.seek(0, os.SEEK_END)


def _record(text: bytes, done: int) -> _Record | None:
    """A line of the journal, or None if it was cut short or does not follow on what is known of `done` items."""
    try:
        line = json.loads(text)
        record = _Record(line["rows"], tuple(line["names"]), tuple((name, reason) for name, reason in line["bad"]))
        follows = done + record.rows + len(record.bad) == line["done"]
    except (ValueError, TypeError, KeyError):
        return None
    return record if follows and len(record.names) in (0, record.rows) and text.endswith(b"\n") else None


def _claimed(folder: Path) -> BinaryIO | None:
    """The journal in `folder`, locked, or None if that is not to be had."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        folder.mkdir(exist_ok=True)
        journal = open(folder / "journal.jsonl", "a+b")  # noqa: SIM115 (handed on)
    except OSError:  # its owner is just removing it
        return None
    try:
        fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The former owner may have removed the file between its opening and its locking.
        if os.path.samestat(os.fstat(journal.fileno()), (folder / "journal.jsonl").stat()):
            return journal
    except OSError:
        pass
    journal.close()
    return None


def _write_header(file: BinaryIO, count: int, shape: tuple[int, ...]) -> int:
    """The header of an array of bytes, at the start of a file; where it ends. There is room for the count to grow."""
    file.seek(0)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)})
    return file.tell()
