"""The cache: what a source's items became is kept as one array on the disk, so that it is made once.

    $RAECTL_CACHE/memo/<state>.json         what the files looked like (paths, sizes, times) -> the key of their content
    $RAECTL_CACHE/packed/<key>/items.npy    the items, memory-mapped on use
    $RAECTL_CACHE/packed/<key>/meta.json    their names, options and fingerprint

A second open reads the memo and the two files; a copy of the data elsewhere finds the same key after hashing. Entries
are written whole or not at all; whatever is unreadable is made anew.
"""

import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL

from raectl import files
from raectl.data import rules
from raectl.data.dataset import DataOptions, fingerprint
from raectl.errors import RaectlError

# Part of every key: another layout here, or another decoder, makes other entries.
_VERSION = f"2, Pillow {PIL.__version__}"


@dataclass(frozen=True)
class Block:
    """Some converted items in their order: (n, *item shape) uint8, their names if they have any, and the bad ones."""

    rows: np.ndarray
    names: tuple[str, ...] = ()
    bad: tuple[rules.Bad, ...] = ()


@dataclass(frozen=True)
class Job:
    """What there is to convert.

    Arguments:
        source: where it comes from, for messages.
        content: digest of the bytes that it is made from.
        options: resolved.
        shape: of one item as stored.
        total: number of items, the bad ones included.
        blocks: converts, from the start each time it is called.
        bad: items already known not to be readable.
        notes: what to tell the user.
        what: the items are, in messages.
    """

    source: str
    content: str
    options: DataOptions
    shape: tuple[int, ...]
    total: int
    blocks: Callable[[], Iterator[Block]]
    bad: tuple[rules.Bad, ...] = ()
    notes: tuple[str, ...] = ()
    what: str = "images"

    @property
    def key(self) -> str:
        return digest(_VERSION, self.content, dataclasses.astuple(self.options))


@dataclass(frozen=True)
class Packed:
    """Converted items (N, *shape) uint8, and what `Dataset` wants to know of them."""

    items: np.ndarray
    options: DataOptions
    total: int
    names: tuple[str, ...]
    skipped: tuple[rules.Bad, ...]
    known_fingerprint: str
    notes: tuple[str, ...] = ()


def cache_directory() -> Path:
    """`$RAECTL_CACHE`, or `raectl` in the place that the system has for caches."""
    if own := os.environ.get("RAECTL_CACHE"):
        return Path(own)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "raectl"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "raectl"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "raectl"


def digest(*parts: Any) -> str:
    """SHA-256 of values that JSON can hold, in hexadecimal."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def packed(state: str, options: DataOptions, prepare: Callable[[], Job]) -> Packed:
    """The items of a source, from the cache if they are there.

    Arguments:
        state: a digest that changes whenever the source's files do; looking at their dates is enough.
        options: as the user gave them.
        prepare: looks at the source's content; called only if nothing is known of this state with these options.

    Raises:
        RaectlError: too many items are bad.
    """
    known = _read(_memo(state, options))
    if known is not None and (found := _load(known.get("key"))):
        return dataclasses.replace(found, notes=tuple(known.get("notes", ())))
    job = prepare()
    trouble = "what was written cannot be read back"
    try:
        if _load(job.key) is None:
            _write(job)
        # Whoever opens the source again with the options that were settled on is not told of the choice.
        for memo, notes in {_memo(state, job.options): (), _memo(state, options): job.notes}.items():
            _make_parent(memo)
            files.write_json(memo, {"key": job.key, "notes": notes})
    except RaectlError as error:
        if not isinstance(error.__cause__, OSError):
            raise  # not the cache is at fault, but the data
        trouble = error.__cause__.strerror or str(error.__cause__)
    # After a failed write too: another process may have put the same entry there at the same moment.
    found = _load(job.key)
    return _without_cache(job, trouble) if found is None else dataclasses.replace(found, notes=job.notes)


def _memo(state: str, options: DataOptions) -> Path:
    return cache_directory() / "memo" / f"{digest(_VERSION, state, dataclasses.astuple(options))}.json"


def in_memory(job: Job) -> Packed:
    """Convert without the cache."""
    items = np.empty((job.total, *job.shape), np.uint8)
    filled = 0

    def put(rows: np.ndarray) -> None:
        nonlocal filled
        items[filled : filled + len(rows)] = rows
        filled += len(rows)

    names, skipped = _convert(job, put)
    items = items[:filled]
    return Packed(items, job.options, job.total, names, skipped, fingerprint(items), job.notes)


def _without_cache(job: Job, trouble: str) -> Packed:
    where = rules.shown(str(cache_directory()))
    note = f"the cache {where} cannot be used ({trouble}), so {job.what} are converted anew each time; set RAECTL_CACHE"
    return in_memory(dataclasses.replace(job, notes=(*job.notes, note)))


def _make_parent(path: Path) -> None:
    with files.describing_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)


def _convert(job: Job, put: Callable[[np.ndarray], Any]) -> tuple[tuple[str, ...], tuple[rules.Bad, ...]]:
    """Convert all blocks, handing on their rows; the names of the good items, and the bad ones by name."""
    names: list[str] = []
    bad = list(job.bad)
    for block in job.blocks():
        put(block.rows)
        names.extend(block.names)
        bad.extend(block.bad)
    bad.sort(key=rules.by_number)
    rules.tolerate(bad, job.total, job.source, job.what)
    return tuple(names), tuple(bad)


def _write(job: Job) -> None:
    entry = cache_directory() / "packed" / job.key
    _make_parent(entry)
    with files.atomic_directory(entry) as directory:
        # Written as a stream and not through a memory map: a full disk is then an error and no crash, and bad items
        # leave no holes.
        with open(directory / "items.npy", "w+b") as file:
            _write_header(file, 0, job.shape)
            start = file.tell()
            names, skipped = _convert(job, lambda rows: file.write(np.ascontiguousarray(rows).data))
            count = (file.tell() - start) // int(np.prod(job.shape))
            file.seek(0)
            _write_header(file, count, job.shape)
            assert file.tell() == start  # NumPy's headers leave room for the first dimension to grow
            file.flush()
            os.fsync(file.fileno())
        meta = {
            "options": dataclasses.asdict(job.options),
            "shape": job.shape,
            "total": job.total,
            "names": names,
            "skipped": skipped,
            "fingerprint": fingerprint(np.load(directory / "items.npy", mmap_mode="r")),
        }
        (directory / "meta.json").write_text(json.dumps(meta), encoding="utf-8")


def _write_header(file: BinaryIO, count: int, shape: tuple[int, ...]) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
    np.lib.format.write_array_header_1_0(file, header)


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None if it is not there or damaged. (The names of a million images may be long.)"""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _load(key: Any) -> Packed | None:
    """An entry of the cache, or None if it is not there or not what was written."""
    entry = cache_directory() / "packed" / str(key)
    meta = _read(entry / "meta.json")
    if meta is None:
        return None
    try:
        # A file that was cut short is refused here: the map would not fit.
        items = np.load(entry / "items.npy", mmap_mode="r")
        options = DataOptions(**meta["options"])
        names, skipped = tuple(meta["names"]), tuple((name, reason) for name, reason in meta["skipped"])
        whole = items.dtype == np.uint8 and items.shape == (meta["total"] - len(skipped), *meta["shape"])
        if not whole or len(names) not in (0, len(items)):
            return None
        return Packed(items, options, meta["total"], names, skipped, meta["fingerprint"])
    except Exception:  # whatever the damage is, the entry is made anew
        return None
