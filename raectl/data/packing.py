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
import json
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from raectl.data import limits
from raectl.data.dataset import fingerprint
from raectl.data.journal import Block, Journal
from raectl.data.options import DataOptions
from raectl.errors import RaectlError
from raectl.storage.atomic import atomic_directory, describing_os_errors, write_json
from raectl.storage.cache import cache_directory, digest

# Part of every key: another layout here, or another decoder, makes other entries.
_VERSION = f"2, Pillow {PIL.__version__}"


@dataclass(frozen=True)
class PackingTask:
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
    bad: tuple[limits.Bad, ...] = ()
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
    skipped: tuple[limits.Bad, ...]
    known_fingerprint: str
    notes: tuple[str, ...] = ()


def packed(state: str, options: DataOptions, prepare: Callable[[], PackingTask]) -> Packed:
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
    task = prepare()
    trouble = "what was written cannot be read back"
    try:
        if _load(task.key) is None:
            _write(task)
        # Whoever opens the source again with the options that were settled on is not told of the choice.
        for memo, notes in {_memo(state, task.options): (), _memo(state, options): task.notes}.items():
            _make_parent(memo)
            write_json(memo, {"key": task.key, "notes": notes})
    except RaectlError as error:
        if not isinstance(error.__cause__, OSError):
            raise  # not the cache is at fault, but the data
        trouble = error.__cause__.strerror or str(error.__cause__)
    # After a failed write too: another process may have put the same entry there at the same moment.
    found = _load(task.key)
    return _without_cache(task, trouble) if found is None else dataclasses.replace(found, notes=task.notes)


def _memo(state: str, options: DataOptions) -> Path:
    return cache_directory() / "memo" / f"{digest(_VERSION, state, options.form)}.json"


def in_memory(task: PackingTask) -> Packed:
    """Convert without the cache."""
    items = np.empty((task.total, *task.shape), np.uint8)
    filled = 0
    names: list[str] = []
    bad = [*task.bad]
    with contextlib.closing(task.blocks(0)) as blocks:
        for block in blocks:
            items[filled : filled + len(block.rows)] = block.rows
            filled += len(block.rows)
            names.extend(block.names)
            bad.extend(block.bad)
            _check(task, bad, block)
    items = items[:filled]
    skipped = tuple(sorted(bad, key=limits.by_number))
    return Packed(items, task.options, task.total, tuple(names), skipped, fingerprint(items), task.notes)


def _check(task: PackingTask, bad: list[limits.Bad], block: Block) -> None:
    """Stop as soon as too many items are bad."""
    if block.bad and limits.too_many(len(bad), task.total, task.options):
        limits.tolerate(sorted(bad, key=limits.by_number), task.total, task.source, task.options, task.what)


def _without_cache(task: PackingTask, trouble: str) -> Packed:
    where = limits.shown(str(cache_directory()))
    note = (
        f"the cache {where} cannot be used ({trouble}), so {task.what} are converted anew each time; set RAECTL_CACHE"
    )
    return in_memory(dataclasses.replace(task, notes=(*task.notes, note)))


def _make_parent(path: Path) -> None:
    with describing_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)


def _write(task: PackingTask) -> None:
    entry = cache_directory() / "packed" / task.key
    _make_parent(entry)
    with describing_os_errors(entry), Journal(entry, task.shape) as journal:
        bad = [*task.bad, *journal.bad]
        with contextlib.closing(task.blocks(journal.done)) as blocks:  # an interruption ends its threads too
            for block in blocks:
                journal.append(block)
                bad.extend(block.bad)
                _check(task, bad, block)
        with atomic_directory(entry) as directory:
            taken = journal.move(directory / "items.npy")
            meta = {
                "options": task.options.form,
                "shape": task.shape,
                "total": task.total,
                "names": journal.names,
                "skipped": sorted(bad, key=limits.by_number),
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
