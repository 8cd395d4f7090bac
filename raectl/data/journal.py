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
from raectl.storage.lock import is_same, try_lock

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


class Journal:
    """The rows of one entry of the cache, so far. Use as a context manager: an interruption keeps what was done.

    Where another process is at the same entry, and on Windows, it is a temporary directory that is not kept.

    Arguments:
        entry: the directory that the rows are for; its parent exists.
        shape: of an item.

    Attributes:
        rows: number of rows so far.
        names, bad: names of these items, and the bad items so far.
    """

    def __init__(self, entry: Path, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self.rows, self.names, self.bad = 0, list[str](), list[Bad]()
        self._saved = (0, 0, 0)  # how much of these three the journal has
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
    def done(self) -> int:
        """Number of items so far, good and bad."""
        return self.rows + len(self.bad)

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
            if not (interrupted and self._is_kept and any(self._saved)):
                shutil.rmtree(self._folder, ignore_errors=True)
            self._journal.close()  # which releases the lock

    def append(self, block: Block) -> None:
        """Write a block's rows."""
        # As a stream and not through a memory map: a full disk is then an error and no crash.
        self._items.write(np.ascontiguousarray(block.rows).data)
        self._add(len(block.rows), block.names, block.bad)
        if time.monotonic() - self._time > _SAVE_SECONDS:
            self._save()

    def move(self, path: Path) -> str:
        """Move the whole array to `path`; its fingerprint."""
        assert _write_header(self._items, self.rows, self._shape) == self._start
        self._items.flush()
        with ThreadPoolExecutor(1) as pool:  # the disk needs as long as the hash
            flushed = pool.submit(os.fsync, self._items.fileno())
            found = fingerprint(np.load(self._path, mmap_mode="r"))
            flushed.result()
        self._path.replace(path)
        return found

    def _add(self, rows: int, names: tuple[str, ...], bad: tuple[Bad, ...]) -> None:
        self.rows += rows
        self.names.extend(names)
        self.bad.extend(bad)

    @property
    def _state(self) -> tuple[int, int, int]:
        return self.rows, len(self.names), len(self.bad)

    def _save(self) -> None:
        """Bring the journal up to date."""
        self._time = time.monotonic()
        (rows, names, bad), now = self._saved, self._state
        if now == self._saved:
            return
        line = {"rows": self.rows - rows, "names": self.names[names:], "bad": self.bad[bad:], "done": self.done}
        self._items.flush()
        os.fsync(self._items.fileno())
        # Counted before it is written: an interruption in between loses the line, and never writes it twice.
        self._saved = now
        self._journal.write(json.dumps(line).encode() + b"\n")
        self._journal.flush()

    def _recall(self) -> None:
        """Take up what an interrupted run left: all whole lines of the journal whose rows are there."""
        row = math.prod(self._shape)
        room = (self._path.stat().st_size - self._start) // row
        self._journal.seek(0)
        end = 0
        for text in self._journal:
            found = _parsed(text, self.done)
            if found is None or found[0] + self.rows > room:
                break
            self._add(*found)
            end += len(text)
        self._saved = self._state
        self._journal.truncate(end)
        self._journal.seek(end)
        self._items.truncate(self._start + self.rows * row)
        self._items.seek(0, os.SEEK_END)


def _parsed(text: bytes, done: int) -> tuple[int, tuple[str, ...], tuple[Bad, ...]] | None:
    """Rows, names and bad items of a line; None if it was cut short or does not follow on `done` items."""
    try:
        line = json.loads(text)
        rows, names, bad = line["rows"], tuple(line["names"]), tuple((name, reason) for name, reason in line["bad"])
        follows = done + rows + len(bad) == line["done"]
    except (ValueError, TypeError, KeyError):
        return None
    return (rows, names, bad) if follows and len(names) in (0, rows) and text.endswith(b"\n") else None


def _claimed(folder: Path) -> BinaryIO | None:
    """The journal in `folder`, locked; None if another process has it, or where nothing can be locked."""
    try:
        folder.mkdir(exist_ok=True)
        journal = open(folder / "journal.jsonl", "a+b")  # noqa: SIM115 (handed on)
    except OSError:  # its owner is just removing it
        return None
    # The former owner may have removed the file between its opening and its locking.
    if try_lock(journal.fileno()) and is_same(folder / "journal.jsonl", journal.fileno()):
        return journal
    journal.close()
    return None


def _write_header(file: BinaryIO, count: int, shape: tuple[int, ...]) -> int:
    """The header of an array of bytes, at the start of a file; where it ends. There is room for the count to grow."""
    file.seek(0)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)})
    return file.tell()
