"""The cache: what a source's items became is kept as one array on the disk, so that it is made once.

    $RAECTL_CACHE/memo/<state>.json         what the files looked like (paths, sizes, times) -> the key of their content
    $RAECTL_CACHE/packed/<key>/items.npy    the items, memory-mapped on use
    $RAECTL_CACHE/packed/<key>/meta.json    their names, options and fingerprint
    $RAECTL_CACHE/packed/<key>.partial/     what an interrupted packing got done, see `raectl.data.journal`

A second open reads the memo and the two files; a copy of the data elsewhere finds the same key after hashing. Entries
are written whole or not at all; whatever is unreadable is made anew.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from raectl.data import limits as rules
from raectl.data.dataset import fingerprint
from raectl.data.journal import Block, Partial
from raectl.data.options import DataOptions
from raectl.errors import RaectlError
from raectl.storage import files

# Part of every key: another layout here, or another decoder, makes other entries.
_VERSION = f"2, Pillow {PIL.__version__}"


@dataclass(frozen=True)
class Job:
    """What there is to convert.

    Arguments:
        source: where it comes from, for messages.
        content: digest of the bytes that it is made from.
        options: resolved.
        shape: of one item as stored.
        total: number of items, the bad ones included.
        blocks: converts, from the item of the number on that it is given; `bad` ones do not count.
        bad: items already known not to be readable.
        notes: what to tell the user.
        what: the items are, in messages.
    """

    source: str
    content: str
    options: DataOptions
    shape: tuple[int, ...]
    total: int
    blocks: Callable[[int], Generator[Block, None, None]]
    bad: tuple[rules.Bad, ...] = ()
    notes: tuple[str, ...] = ()
    what: str = "images"

    @property
    def key(self) -> str:
        return digest(_VERSION, self.content, self.options.form)


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
    return cache_directory() / "memo" / f"{digest(_VERSION, state, options.form)}.json"


def in_memory(job: Job) -> Packed:
    """Convert without the cache."""
    items = np.empty((job.total, *job.shape), np.uint8)
    filled = 0
    names: list[str] = []
    bad = [*job.bad]
    with contextlib.closing(job.blocks(0)) as blocks:
        for block in blocks:
            items[filled : filled + len(block.rows)] = block.rows
            filled += len(block.rows)
            names.extend(block.names)
            bad.extend(block.bad)
            _check(job, bad, block)
    items = items[:filled]
    skipped = tuple(sorted(bad, key=rules.by_number))
    return Packed(items, job.options, job.total, tuple(names), skipped, fingerprint(items), job.notes)


def _check(job: Job, bad: list[rules.Bad], block: Block) -> None:
    """Stop as soon as too many items are bad."""
    if block.bad and rules.too_many(len(bad), job.total, job.options):
        rules.tolerate(sorted(bad, key=rules.by_number), job.total, job.source, job.options, job.what)


def _without_cache(job: Job, trouble: str) -> Packed:
    where = rules.shown(str(cache_directory()))
    note = f"the cache {where} cannot be used ({trouble}), so {job.what} are converted anew each time; set RAECTL_CACHE"
    return in_memory(dataclasses.replace(job, notes=(*job.notes, note)))


def _make_parent(path: Path) -> None:
    with files.describing_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)


def _write(job: Job) -> None:
    entry = cache_directory() / "packed" / job.key
    _make_parent(entry)
    with files.describing_os_errors(entry), Partial(entry, job.shape) as partial:
        bad = [*job.bad, *partial.bad]
        with contextlib.closing(job.blocks(partial.done)) as blocks:  # an interruption ends its threads too
            for block in blocks:
                partial.append(block)
                bad.extend(block.bad)
                _check(job, bad, block)
        with files.atomic_directory(entry) as directory:
            taken = partial.take(directory / "items.npy")
            meta = {
                "options": job.options.form,
                "shape": job.shape,
                "total": job.total,
                "names": partial.names,
                "skipped": sorted(bad, key=rules.by_number),
                "fingerprint": taken,
            }
            (directory / "meta.json").write_text(json.dumps(meta), encoding="utf-8")


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
