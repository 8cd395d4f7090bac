"""The cache: the converted items of a source are kept as one array on the disk.

    $RAECTL_CACHE/memo/<state>.json         state of the source's files (paths, sizes, times) => key of their content
    $RAECTL_CACHE/packed/<key>/items.npy    the items, memory-mapped on use
    $RAECTL_CACHE/packed/<key>/meta.json    their names, options and fingerprint
    $RAECTL_CACHE/packed/<key>.partial/     an interrupted packing, see `raectl.data.pieces`

A copy of the data elsewhere has the same key. Entries are written atomically; damaged ones are made again.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from raectl.data import limits
from raectl.data.dataset import Dataset, fingerprint
from raectl.data.options import DataOptions
from raectl.data.pieces import Block, kept, partial
from raectl.errors import RaectlError
from raectl.progress import Progress
from raectl.storage.atomic import describing_os_errors, write_json
from raectl.storage.cache import cache_directory, digest
from raectl.storage.records import read_record, to_json

_LARGEST_META = 2**32  # bytes; ten million names take some hundred million
# Part of every key: to be changed with the layout of the entries; another decoder may give other pixels.
_VERSION = f"7, Pillow {PIL.__version__}"
_CHOICES = "2"  # part of the key of every memo: to be changed with what is chosen for options that are left open


@dataclass(frozen=True)
class PackingTask:
    """The items of a source, to be converted."""

    source: str  # for messages
    content: str  # digest of the source's bytes
    options: DataOptions  # resolved
    shape: tuple[int, ...]  # of a stored item
    total: int  # number of items, including bad ones
    blocks: Callable[[int], Generator[Block, None, None]]  # converts from item i on, not counting those in `bad`
    bad: tuple[limits.Bad, ...] = ()  # items already known to be bad
    notes: tuple[str, ...] = ()  # sentences to show the user
    found: Mapping[str, Any] = field(default_factory=dict)  # see `Dataset`
    what: str = "images"  # plural noun for the items in messages
    names: Sequence[str] = ()  # of the items that `blocks` converts, all different; empty if they have none

    @property
    def key(self) -> str:
        return digest(_VERSION, self.content, self.options.form)

    def good_names(self, bad: Collection[limits.Bad]) -> tuple[str, ...]:
        """The names of the items that are not bad."""
        left_out = {name for name, _ in bad}
        return tuple(name for name in self.names if name not in left_out)


@dataclass(frozen=True)
class _Memo:
    """Of a state of a source: the key of its entry, and what was said when it was made."""

    key: str
    notes: tuple[str, ...]
    found: Mapping[str, Any]


@dataclass(frozen=True)
class _Meta:
    """What an entry holds beside its items."""

    options: DataOptions
    shape: tuple[int, ...]
    total: int
    names: tuple[str, ...]
    skipped: tuple[limits.Bad, ...]
    fingerprint: str

    def __post_init__(self) -> None:
        if len(self.names) not in (0, self.total - len(self.skipped)):
            raise ValueError("it has not as many names as items")


@dataclass(frozen=True)
class Packed:
    """Converted items, (N, *shape) uint8 or uint16, and the fields of their `Dataset`."""

    items: np.ndarray
    options: DataOptions
    total: int
    names: tuple[str, ...]
    skipped: tuple[limits.Bad, ...]
    known_fingerprint: str
    notes: tuple[str, ...] = ()
    found: Mapping[str, Any] = field(default_factory=dict)

    def dataset(self, modality: str, source: str, tolerance: DataOptions, what: str = "images") -> Dataset:
        """The items as a dataset. Raises a `BadItemsError` if `tolerance` does not allow the skipped items."""
        notes = self.notes + limits.tolerate(self.skipped, self.total, source, tolerance, what)
        fields = {name: value for name, value in vars(self).items() if name not in ("total", "notes")}
        return Dataset(modality=modality, source=source, notes=notes, what=what, **fields)


def packed(state: str, options: DataOptions, prepare: Callable[[], PackingTask], progress: Progress) -> Packed:
    """The items of a source, from the cache if they are there.

    Arguments:
        state: a digest that changes when the source's files do, such as one of their sizes and times.
        options: the options as the user gave them.
        prepare: reads the source; called only if this state is not in the cache with these options.

    Raises:
        RaectlError: too many items are bad.
    """
    with contextlib.suppress(RaectlError):
        memo = read_record(_memo_path(state, options), _Memo)
        if entry := _load(memo.key):
            return dataclasses.replace(entry, notes=memo.notes, found=memo.found)
    task = prepare()
    problem = "a new entry cannot be read back"
    try:
        if _load(task.key) is None or partial(_entry(task.key)).exists():
            _write(task, progress)
        # Opening the source with the resolved options, which are explicit, gives no notes on how they were chosen.
        for path, notes in {_memo_path(state, task.options): (), _memo_path(state, options): task.notes}.items():
            with describing_os_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, to_json(_Memo(task.key, notes, task.found)))
    except RaectlError as error:
        if not isinstance(error.__cause__, OSError):
            raise  # an error of the data, not of the cache
        problem = error.__cause__.strerror or str(error.__cause__)
    # After a failed write too: another process may have written the same entry meanwhile.
    if (entry := _load(task.key)) is not None:
        return dataclasses.replace(entry, notes=task.notes, found=task.found)
    where = limits.shown(str(cache_directory()))
    note = f"the cache {where} cannot be used ({problem}), so {task.what} are converted each time; set RAECTL_CACHE"
    return in_memory(dataclasses.replace(task, notes=(*task.notes, note)))


def _memo_path(state: str, options: DataOptions) -> Path:
    return cache_directory() / "memo" / f"{digest(_VERSION, _CHOICES, state, options.form)}.json"


def in_memory(task: PackingTask) -> Packed:
    """Convert the items without the cache.

    Raises:
        BadItemsError: too many items are bad.
    """
    items = np.empty((task.total, *task.shape), task.options.stored)
    filled = 0
    bad = [*task.bad]
    with contextlib.closing(task.blocks(0)) as blocks:
        for block in blocks:
            items[filled : filled + len(block.rows)] = block.rows
            filled += len(block.rows)
            bad.extend(block.bad)
            _check(task, bad, block)
    items = items[:filled]
    skipped, names = tuple(sorted(bad, key=limits.by_number)), task.good_names(bad)
    return Packed(items, task.options, task.total, names, skipped, fingerprint(items), task.notes, task.found)


def _check(task: PackingTask, bad: list[limits.Bad], block: Block) -> None:
    """Raise a `BadItemsError` as soon as too many items are bad."""
    if block.bad and limits.too_many(len(bad), task.total, task.options):
        limits.tolerate(sorted(bad, key=limits.by_number), task.total, task.source, task.options, task.what)


def _write(task: PackingTask, progress: Progress) -> None:
    entry = _entry(task.key)
    with describing_os_errors(entry), kept(entry, task.shape, task.options.stored, progress) as pieces:
        if _load(task.key) is not None:  # by another process, meanwhile
            return
        bad = [*task.bad, *pieces.bad]
        with contextlib.closing(task.blocks(pieces.done)) as blocks:  # closing ends its threads
            for block in blocks:
                pieces.append(block)
                bad.extend(block.bad)
                _check(task, bad, block)
        skipped, names = tuple(sorted(bad, key=limits.by_number)), task.good_names(bad)
        # An entry has no tolerance of bad items, and shows no bands: those of the caller who opens it count.
        options = dataclasses.replace(task.options, max_bad=DataOptions().max_bad, strict=False, bands=None)
        pieces.move(entry, to_json(_Meta(options, task.shape, task.total, names, skipped, pieces.join())))


def _entry(key: str) -> Path:
    return cache_directory() / "packed" / key


def _load(key: str) -> Packed | None:
    """An entry of the cache, or None if it is missing or damaged: then it is made again."""
    entry = _entry(key)
    try:
        meta = read_record(entry / "meta.json", _Meta, largest=_LARGEST_META)
        items = np.load(entry / "items.npy", mmap_mode="r")  # raises if the file is truncated
    except (RaectlError, OSError, ValueError, EOFError):
        return None
    if items.dtype != meta.options.stored or items.shape != (meta.total - len(meta.skipped), *meta.shape):
        return None
    return Packed(items, meta.options, meta.total, meta.names, meta.skipped, meta.fingerprint)
