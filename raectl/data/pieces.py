"""Packing that can be interrupted and resumed: converted rows are kept in pieces, which become one array in the end.

    <entry>.partial/lock          locked by the process that packs
    <entry>.partial/NNNNN.npy     the rows of a piece; in the end, those of the others are appended to 00000.npy
    <entry>.partial/NNNNN.json    written after them: their number, and the bad items among them
    <entry>.partial/entry/        what is then moved to <entry>

A piece is closed every few seconds, when it is large, and when the work is interrupted, and counts once its two files
are there. So a process killed at any moment loses seconds of work, and the resulting bytes are the same.
"""

import contextlib
import hashlib
import io
import itertools
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from raectl.data.limits import Bad
from raectl.errors import RaectlError
from raectl.progress import Progress
from raectl.storage.atomic import TEMPORARY, atomic_file, write_text
from raectl.storage.lock import is_same, try_lock
from raectl.storage.records import Count, read_record

_LARGEST, _SECONDS = 64 * 2**20, 5.0  # bytes of rows, and time, after which a piece is closed
_POLL = 0.2  # seconds between two looks whether another process has ended
_LOCK = "lock"


@dataclass(frozen=True)
class Block:
    """Consecutive converted items: (n, *item shape), and the bad ones among them."""

    rows: np.ndarray
    bad: tuple[Bad, ...] = ()

    @property
    def count(self) -> int:
        return len(self.rows) + len(self.bad)


@dataclass
class _Piece:
    number: int
    blocks: list[Block] = field(default_factory=list)
    nbytes: int = 0
    began: float = field(default_factory=time.monotonic)


class Pieces:
    """The rows converted so far for an entry, see `kept`.

    Arguments:
        folder: where the pieces are; what is no complete piece, or follows a missing one, is removed.
        shape, dtype: of an item.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self._folder, self._shape, self._dtype = folder, shape, dtype
        self._records: dict[int, tuple[int, list[Bad]]] = {}  # number of rows, and bad items, of complete pieces
        self._restore()
        self._piece = _Piece(len(self._records))

    @property
    def rows(self) -> int:
        """Number of rows in complete pieces."""
        return sum(rows for rows, _ in self._records.values())

    @property
    def bad(self) -> list[Bad]:
        """Bad items in complete pieces."""
        return [item for _, bad in self._records.values() for item in bad]

    @property
    def done(self) -> int:
        """Number of items in complete pieces, good and bad."""
        return self.rows + len(self.bad)

    def append(self, block: Block) -> None:
        """Take up a block's rows, and close the piece if it is time."""
        piece = self._piece
        # A copy: the rows may be a part of a much larger array. One step: an interruption must not divide the block.
        piece.blocks.append(Block(np.array(block.rows, order="C"), block.bad))
        piece.nbytes += block.rows.nbytes
        if piece.nbytes >= _LARGEST or time.monotonic() - piece.began > _SECONDS:
            self.close()

    def close(self) -> None:
        """Write the rows taken up since the last piece, if there are any, as one.

        Raises:
            RaectlError: the system refuses, such as a full disk.
        """
        piece = self._piece
        rows = sum(len(block.rows) for block in piece.blocks)
        bad = [item for block in piece.blocks for item in block.bad]
        if not piece.blocks:
            return
        with atomic_file(self._path(piece.number)) as path, open(path, "wb") as file:
            file.write(_header((rows, *self._shape), self._dtype))
            for block in piece.blocks:
                # Not through a memory map, in which a full disk would crash the process.
                file.write(block.rows.data)
        write_text(self._path(piece.number, ".json"), json.dumps((rows, bad)))
        # An interruption before the second line writes the same piece again.
        self._records[piece.number] = rows, bad
        self._piece = _Piece(piece.number + 1)

    def join(self) -> str:
        """Append the rows of all pieces to the first one's, file by file; returns the array's fingerprint.

        A file is removed when its rows are on the disk: beyond the array, there is one more at most. See `_restore`.
        """
        self.close()
        shape = (self.rows, *self._shape)
        digest = hashlib.sha256(repr(shape).encode())
        with open(self._path(0), "r+b") as joined:
            joined.write(_header(shape, self._dtype))
            for number, (rows, _) in self._records.items():
                path = self._path(number)
                if number == 0 or not path.exists():
                    digest.update(joined.read(rows * self._item_size))
                    continue
                part = np.load(path)
                joined.write(part.data)
                joined.flush()
                os.fsync(joined.fileno())
                path.unlink()
                digest.update(part.data)
            joined.truncate()
        return digest.hexdigest()

    def move(self, entry: Path, meta: Mapping[str, Any]) -> None:
        """Move the joined array to `entry`, as items.npy, beside `meta` as meta.json."""
        made = self._folder / "entry"
        made.mkdir(exist_ok=True)
        write_text(made / "meta.json", json.dumps(meta))
        self._path(0).replace(made / "items.npy")
        shutil.rmtree(entry, ignore_errors=True)  # a damaged one
        made.replace(entry)

    def _path(self, number: int, suffix: str = ".npy") -> Path:
        return self._folder / f"{number:05}{suffix}"

    def _restore(self) -> None:
        """Find the complete pieces of an interrupted run. Rows may have been joined to the first file already."""
        with contextlib.suppress(FileNotFoundError):
            (self._folder / "entry" / "items.npy").replace(self._path(0))
        joined = _length(self._path(0))
        for number in itertools.count():
            record = _record(self._path(number, ".json"))
            if record is None or (
                _length(self._path(number)) != self._size(record[0]) and joined < self._size(self.rows + record[0])
            ):
                break
            self._records[number] = record
        known = {self._path(number, suffix).name for number in self._records for suffix in (".npy", ".json")}
        _clear(self._folder, {*known, _LOCK})

    def _size(self, rows: int) -> int:
        """Bytes of a file of so many rows."""
        return len(_header((rows, *self._shape), self._dtype)) + rows * self._item_size

    @property
    def _item_size(self) -> int:
        """Bytes of an item."""
        return math.prod(self._shape) * self._dtype.itemsize


@contextlib.contextmanager
def kept(entry: Path, shape: tuple[int, ...], dtype: np.dtype, progress: Progress) -> Iterator[Pieces]:
    """The pieces of an entry, which stay if the block is interrupted, and are removed otherwise.

    Waits for another process that packs the same entry. Where the system has no locks, the pieces are in a temporary
    directory, and removed in any case.

    Arguments:
        entry: the directory that the rows are for.
        shape, dtype: of an item.
    """
    folder, lock = _claim(entry, progress)
    stay = False
    try:
        pieces = Pieces(folder, shape, dtype)
        try:
            yield pieces
        except BaseException as error:
            stay = lock is not None and not isinstance(error.__cause__ or error, OSError)  # of a full disk, free it
            with contextlib.suppress(RaectlError):
                pieces.close() if stay else None
            stay &= pieces.done > 0
            raise
    finally:
        _release(folder, lock, stay)


def partial(entry: Path) -> Path:
    """Where the pieces of an entry are."""
    return entry.with_name(f"{entry.name}.partial")


def _claim(entry: Path, progress: Progress) -> tuple[Path, int | None]:
    """The folder of an entry's pieces, and its lock; a temporary one and None if it cannot be locked."""
    folder, is_told = partial(entry), False
    with contextlib.suppress(OSError):
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT)
            except FileNotFoundError:  # another process is removing the folder
                continue
            is_locked = try_lock(lock)
            if is_locked and is_same(folder / _LOCK, lock):  # not one that has been removed meanwhile
                return folder, lock
            if is_locked is None:
                _release(folder, lock, stay=False)
                break
            os.close(lock)
            if not is_locked:
                if not is_told:
                    progress.note("another process is converting the same data: waiting for it (Ctrl-C stops this)")
                is_told = True
                time.sleep(_POLL)
    entry.parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=entry.parent)), None


def _release(folder: Path, lock: int | None, stay: bool) -> None:
    """Release the lock; remove the folder, unless it is to stay, and the lock last: no process uses it before."""
    try:
        with contextlib.suppress(OSError):
            if not stay:
                _clear(folder, {_LOCK})
                if os.name == "posix":  # Windows removes no open file
                    (folder / _LOCK).unlink(missing_ok=True)
    finally:
        if lock is not None:
            os.close(lock)
    with contextlib.suppress(OSError):
        if not stay:
            if os.name != "posix":
                (folder / _LOCK).unlink(missing_ok=True)
            folder.rmdir()


def _clear(folder: Path, known: Collection[str]) -> None:
    """Remove all files and directories but those of known names."""
    for path in folder.iterdir():
        if path.name not in known:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _record(path: Path) -> tuple[int, list[Bad]] | None:
    """Number of rows and bad items of a piece; None if the file is missing or damaged."""
    with contextlib.suppress(RaectlError):
        return read_record(path, tuple[Count, list[Bad]])
    return None


def _length(path: Path) -> int:
    """Bytes of a file; -1 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    """The `.npy` header of an array, padded so that its length suits any number of rows."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype.str, "fortran_order": False, "shape": shape})
    return file.getvalue()
