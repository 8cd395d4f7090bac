"""Many image files, in a folder or a zip, to one packed array: hash and look at the headers, then decode once.

Of many small images, some are decoded as soon as they are looked at, see `_Prefetch`.
"""

import contextlib
import hashlib
import math
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from raectl.data import limits
from raectl.data.dataset import Dataset
from raectl.data.images import decode
from raectl.data.images.parallel import done, in_order, workers
from raectl.data.images.workers import SMALL_BYTES, SMALL_PIXELS, Decoded, WorkerPool
from raectl.data.journal import Block
from raectl.data.options import DataOptions
from raectl.data.packing import PackingTask, packed
from raectl.progress import Progress
from raectl.storage.cache import digest

LARGEST = 256 * 2**20  # bytes of one file, or of one unpacked entry of a zip
_PER_TASK = 32  # images decoded by one task: enough to make the handing over cheap, few enough to spread
_LARGE = 2**24  # bytes or pixels from which on images are taken one at a time, whatever the number of threads
_SMALL = 2**16  # bytes of a file
_PREFETCHED = 2**26  # bytes of images decoded ahead
_alone = threading.Lock()

T = TypeVar("T")


@dataclass(frozen=True)
class ImageFiles:
    """Image files, before any of them is read.

    Arguments:
        source: absolute path, as `open_dataset` takes it.
        names: relative paths with `/`, sorted.
        size: bytes of one of them, unpacked; known without reading it.
        read: those bytes; any exception means that it is bad.
        state: changes whenever one of the files does.
        bad: files that are not to be read, and why.
    """

    source: str
    names: tuple[str, ...]
    size: Callable[[str], int]
    read: Callable[[str], bytes]
    state: str
    bad: tuple[limits.Bad, ...] = ()


@dataclass(frozen=True)
class _Header:
    name: str
    content: str
    length: int  # of the file
    size: tuple[int, int]
    grey: bool

    @property
    def pixels(self) -> int:
        return math.prod(self.size)


class _Prefetch:
    """Images decoded before it is known what all of them become, in case the guess is right.

    The headers of all images decide their size and channels, and the first few mostly tell. Reading a small file for
    its header is most of the work of decoding it. Kept are at most 64 MiB of rows, by name.

    Arguments:
        guess: what the images will probably become, or None to decode none prefetch.
    """

    def __init__(self, guess: DataOptions | None) -> None:
        self.guess = guess
        self._decoded_with = guess
        self._rows: dict[str, np.ndarray] = {}
        self._room = _PREFETCHED

    def keep(self, rows: Mapping[str, np.ndarray]) -> None:
        """Keep rows as long as there is room; `guess` is None from then on."""
        self._rows.update(rows)
        self._room -= sum(row.nbytes for row in rows.values())
        if self._room <= 0:
            self.guess = None

    def confirm(self, options: DataOptions) -> None:
        """Drop everything if the guess was wrong."""
        if options != self._decoded_with:
            self._rows.clear()

    def take(self, names: Sequence[str]) -> np.ndarray | None:
        """The rows of so many pictures, which are dropped, or None if one is missing."""
        rows = [self._rows.pop(name, None) for name in names]
        known = [row for row in rows if row is not None]
        return np.stack(known) if len(known) == len(names) else None


class _Looked(NamedTuple):
    """What some files say of themselves, what is bad, and some of the good decoded already."""

    headers: list[_Header]
    bad: list[limits.Bad]
    rows: dict[str, np.ndarray]


def open_image_files(images: ImageFiles, options: DataOptions, background: str, progress: Progress) -> Dataset:
    """The pictures of a images, labelled by the first part of their paths if all of them lie in folders.

    Raises:
        RaectlError: none of them is good, or too many are bad.
    """
    state = digest(images.source, images.state)
    # The filter is global to the process, so it is set here once and not by the threads. Pillow's warnings (odd EXIF
    # data, nearly too many pixels) say nothing that a user could act on.
    with warnings.catch_warnings(), WorkerPool() as pool:
        warnings.simplefilter("ignore")
        result = packed(state, options, lambda: _prepare(images, options, background, progress, pool))
    classes, labels = _labels(result.names)
    return Dataset(
        items=result.items,
        modality="images",
        source=images.source,
        options=result.options,
        names=result.names,
        labels=labels,
        classes=classes,
        notes=result.notes + limits.tolerate(result.skipped, result.total, images.source, options),
        skipped=result.skipped,
        known_fingerprint=result.known_fingerprint,
    )


def _labels(names: tuple[str, ...]) -> tuple[tuple[str, ...], np.ndarray | None]:
    if not all("/" in name for name in names):
        return (), None
    classes, labels = np.unique([name.partition("/")[0] for name in names], return_inverse=True)
    return tuple(classes.tolist()), labels.astype(np.int64)


def _tasks(items: Sequence[T]) -> list[Sequence[T]]:
    step = max(1, min(_PER_TASK, len(items) // (4 * workers())))
    return [items[start : start + step] for start in range(0, len(items), step)]


def _prepare(
    images: ImageFiles, options: DataOptions, background: str, progress: Progress, pool: WorkerPool
) -> PackingTask:
    """Read every file once, for its digest and its header, and settle what the images become."""
    pool.start(len(images.names))
    headers: list[_Header] = []
    bad = list(images.bad)
    total = len(images.names) + len(bad)
    prefetch = _Prefetch(_guess(images, options, background) if pool else None)
    for found, refused, rows in _looked_at(images, pool, prefetch):
        headers.extend(found)
        bad.extend(refused)
        prefetch.keep(rows)
        progress.update("reading images", len(headers) + len(bad), total)
        if refused and limits.too_many(len(bad), total, options):
            break
    headers, broken = _without_broken_outliers(images, headers)
    bad.extend(broken)
    limits.tolerate(bad, total, images.source, options)
    resolved, notes = _resolve(options, headers, background)
    prefetch.confirm(resolved)

    def blocks(start: int) -> Generator[Block, None, None]:
        done = start
        for block in _decoded(images, headers[start:], resolved, pool, prefetch):
            done += block.count
            yield block
            progress.update("decoding images", done, len(headers))

    content = digest([(header.name, header.content) for header in headers], sorted(bad))
    return PackingTask(images.source, content, resolved, limits.item_shape(resolved), total, blocks, tuple(bad), notes)


def _guess(images: ImageFiles, options: DataOptions, background: str) -> DataOptions | None:
    """What the images become if all are like the first few."""
    headers = _look(images, images.names[:_PER_TASK]).headers
    return _resolve(options, headers, background)[0] if headers else None


def _resolve(options: DataOptions, headers: Sequence[_Header], background: str) -> tuple[DataOptions, tuple[str, ...]]:
    sizes = {header.size for header in headers}
    return limits.resolve(options, sizes, all(header.grey for header in headers), background)


def _without_broken_outliers(images: ImageFiles, headers: list[_Header]) -> tuple[list[_Header], list[limits.Bad]]:
    """Drop images that cannot be decoded among the few of an odd size: a broken one must not decide the size of all."""
    counts = Counter(header.size for header in headers)
    usual = max(counts, key=lambda size: counts[size], default=None)
    odd = [header for header in headers if header.size != usual]
    if not odd or len(odd) > limits.NAMED:
        return headers, []
    options = DataOptions(image_size=limits.DEFAULT_SIZE, background="white", channels=3)
    bad = dict(_decode(images, odd, options).bad)
    return [header for header in headers if header.name not in bad], list(bad.items())


def _room(extent: int) -> contextlib.AbstractContextManager[object]:
    """Wait for other large images to be done with, if this is one; several at once could exhaust the memory."""
    return _alone if extent > _LARGE else contextlib.nullcontext()


def _read(images: ImageFiles, name: str) -> bytes:
    try:
        if images.size(name) > LARGEST:
            raise decode.BadImageError(f"{images.size(name):,} bytes are too many")
        return images.read(name)
    except decode.BadImageError:
        raise
    except Exception as error:  # a vanished file, a broken or exotic zip entry
        raise decode.BadImageError(decode.reason(error)) from error


def _looked_at(images: ImageFiles, pool: WorkerPool, prefetch: _Prefetch) -> Iterator[_Looked]:
    """All files, block by block; the small ones decoded ahead as long as there is a guess."""
    # Threads that read and hash little get in each other's way.
    count = workers() if sum(map(images.size, images.names)) > _SMALL * len(images.names) else 1
    with ThreadPoolExecutor(count) as threads:

        def submit(names: Sequence[str]) -> Future[_Looked]:
            if prefetch.guess is None or any(images.size(name) > SMALL_BYTES for name in names):
                return threads.submit(_look, images, names)
            files, bad = _read_all(images, names)
            return pool.submit([*files.values()], prefetch.guess, lambda decoded: _sorted_out(files, bad, decoded))

        yield from in_order(submit, _tasks(images.names))


def _look(images: ImageFiles, names: Sequence[str]) -> _Looked:
    headers: list[_Header] = []
    bad: list[limits.Bad] = []
    for name in names:
        try:
            with _room(images.size(name)):
                data = _read(images, name)
                headers.append(_header(name, data, decode.header(decode.open_picture(data))))
                del data  # before the next one is read
        except decode.BadImageError as error:
            bad.append((name, str(error)))
    return _Looked(headers, bad, {})


def _sorted_out(files: Mapping[str, bytes], bad: list[limits.Bad], decoded: Decoded) -> _Looked:
    rows, outcomes = decoded
    headers = []
    for (name, data), (reason, header) in zip(files.items(), outcomes, strict=True):
        if header is not None:
            headers.append(_header(name, data, header))
        else:
            bad.append((name, str(reason)))
    good = [name for name, outcome in zip(files, outcomes, strict=True) if outcome.reason is None]
    return _Looked(headers, bad, dict(zip(good, rows, strict=True)))


def _header(name: str, data: bytes, header: decode.Header) -> _Header:
    return _Header(name, hashlib.sha256(data).hexdigest(), len(data), header.size, header.grey)


def _read_all(images: ImageFiles, names: Sequence[str]) -> tuple[dict[str, bytes], list[limits.Bad]]:
    files: dict[str, bytes] = {}
    bad: list[limits.Bad] = []
    for name in names:
        try:
            files[name] = _read(images, name)
        except decode.BadImageError as error:
            bad.append((name, str(error)))
    return files, bad


def _decoded(
    images: ImageFiles, headers: Sequence[_Header], options: DataOptions, pool: WorkerPool, prefetch: _Prefetch
) -> Iterator[Block]:
    """All pictures, block by block: those that are made already, small ones by the pool, others by threads."""
    with ThreadPoolExecutor(workers()) as threads:

        def submit(part: Sequence[_Header]) -> Future[Block]:
            names = tuple(header.name for header in part)
            if (rows := prefetch.take(names)) is not None:
                return done(Block(rows, names))
            if not pool or any(header.length > SMALL_BYTES or header.pixels > SMALL_PIXELS for header in part):
                return threads.submit(_decode, images, part, options)
            files, bad = _read_again(images, part)
            return pool.submit([*files.values()], options, lambda decoded: _block(files, bad, decoded))

        yield from in_order(submit, _tasks(headers))


def _decode(images: ImageFiles, headers: Sequence[_Header], options: DataOptions) -> Block:
    rows = np.empty((len(headers), *limits.item_shape(options)), np.uint8)
    good: list[str] = []
    bad: list[limits.Bad] = []
    for header in headers:
        with _room(max(header.pixels, header.length)):
            files, changed = _read_again(images, [header])
            block = _block(files, changed, decode.pictures([*files.values()], options))
        rows[len(good) : len(good) + len(block.rows)] = block.rows
        good.extend(block.names)
        bad.extend(block.bad)
    return Block(rows[: len(good)], tuple(good), tuple(bad))


def _read_again(images: ImageFiles, headers: Sequence[_Header]) -> tuple[dict[str, bytes], list[limits.Bad]]:
    files, bad = _read_all(images, [header.name for header in headers])
    for header in headers:
        data = files.get(header.name)
        if data is not None and hashlib.sha256(data).hexdigest() != header.content:
            del files[header.name]
            bad.append((header.name, "changed while it was being read"))
    return files, bad


def _block(files: Mapping[str, bytes], bad: Sequence[limits.Bad], decoded: Decoded) -> Block:
    rows, outcomes = decoded
    reasons = [(name, outcome.reason) for name, outcome in zip(files, outcomes, strict=True)]
    names = tuple(name for name, reason in reasons if reason is None)
    return Block(rows, names, (*bad, *((name, reason) for name, reason in reasons if reason is not None)))
