"""Many image files, in a folder or a zip, to one packed array: hash and look at the headers, then decode once.

Of many small images, some are decoded as soon as they are looked at, see `raectl.data.images.prefetch`.
"""

import contextlib
import hashlib
import math
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from raectl.data import limits as rules
from raectl.data.base import Progress
from raectl.data.dataset import Dataset
from raectl.data.images import decode as convert
from raectl.data.images.parallel import Promise, done, in_order, workers
from raectl.data.images.prefetch import Ahead
from raectl.data.images.workers import SMALL_BYTES, SMALL_PIXELS, Crew, Decoded
from raectl.data.journal import Block
from raectl.data.options import DataOptions
from raectl.data.packing import Job, digest, packed

LARGEST = 256 * 2**20  # bytes of one file, or of one unpacked entry of a zip
_PER_TASK = 32  # images decoded by one task: enough to make the handing over cheap, few enough to spread
_LARGE = 2**24  # bytes or pixels from which on images are taken one at a time, whatever the number of threads
_SMALL = 2**16  # bytes of a file
_alone = threading.Lock()

T = TypeVar("T")


@dataclass(frozen=True)
class Listing:
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
    bad: tuple[rules.Bad, ...] = ()


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


class _Looked(NamedTuple):
    """What some files say of themselves, what is bad, and some of the good decoded already."""

    headers: list[_Header]
    bad: list[rules.Bad]
    rows: dict[str, np.ndarray]


def open_pictures(listing: Listing, options: DataOptions, background: str, progress: Progress) -> Dataset:
    """The pictures of a listing, labelled by the first part of their paths if all of them lie in folders.

    Raises:
        RaectlError: none of them is good, or too many are bad.
    """
    state = digest(listing.source, listing.state)
    # The filter is global to the process, so it is set here once and not by the threads. Pillow's warnings (odd EXIF
    # data, nearly too many pixels) say nothing that a user could act on.
    with warnings.catch_warnings(), Crew() as crew:
        warnings.simplefilter("ignore")
        result = packed(state, options, lambda: _prepare(listing, options, background, progress, crew))
    classes, labels = _labels(result.names)
    return Dataset(
        items=result.items,
        modality="images",
        source=listing.source,
        options=result.options,
        names=result.names,
        labels=labels,
        classes=classes,
        notes=result.notes + rules.tolerate(result.skipped, result.total, listing.source, options),
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


def _prepare(listing: Listing, options: DataOptions, background: str, progress: Progress, crew: Crew) -> Job:
    """Read every file once, for its digest and its header, and settle what the images become."""
    crew.start(len(listing.names))
    headers: list[_Header] = []
    bad = list(listing.bad)
    total = len(listing.names) + len(bad)
    ahead = Ahead(_guess(listing, options, background) if crew else None)
    for found, refused, rows in _looked_at(listing, crew, ahead):
        headers.extend(found)
        bad.extend(refused)
        ahead.keep(rows)
        progress("reading images", len(headers) + len(bad), total)
        if refused and rules.too_many(len(bad), total, options):
            break
    headers, broken = _without_broken_outliers(listing, headers)
    bad.extend(broken)
    rules.tolerate(bad, total, listing.source, options)
    resolved, notes = _resolve(options, headers, background)
    ahead.settle(resolved)

    def blocks(start: int) -> Generator[Block, None, None]:
        done = start
        for block in _decoded(listing, headers[start:], resolved, crew, ahead):
            done += block.count
            yield block
            progress("decoding images", done, len(headers))

    content = digest([(header.name, header.content) for header in headers], sorted(bad))
    return Job(listing.source, content, resolved, rules.item_shape(resolved), total, blocks, tuple(bad), notes)


def _guess(listing: Listing, options: DataOptions, background: str) -> DataOptions | None:
    """What the images become if all are like the first few."""
    headers = _look(listing, listing.names[:_PER_TASK]).headers
    return _resolve(options, headers, background)[0] if headers else None


def _resolve(options: DataOptions, headers: Sequence[_Header], background: str) -> tuple[DataOptions, tuple[str, ...]]:
    sizes = {header.size for header in headers}
    return rules.resolve(options, sizes, all(header.grey for header in headers), background)


def _without_broken_outliers(listing: Listing, headers: list[_Header]) -> tuple[list[_Header], list[rules.Bad]]:
    """Drop images that cannot be decoded among the few of an odd size: a broken one must not decide the size of all."""
    counts = Counter(header.size for header in headers)
    usual = max(counts, key=lambda size: counts[size], default=None)
    odd = [header for header in headers if header.size != usual]
    if not odd or len(odd) > rules.NAMED:
        return headers, []
    options = DataOptions(image_size=rules.DEFAULT_SIZE, background="white", channels=3)
    bad = dict(_decode(listing, odd, options).bad)
    return [header for header in headers if header.name not in bad], list(bad.items())


def _room(extent: int) -> contextlib.AbstractContextManager[object]:
    """Wait for other large images to be done with, if this is one; several at once could exhaust the memory."""
    return _alone if extent > _LARGE else contextlib.nullcontext()


def _read(listing: Listing, name: str) -> bytes:
    try:
        if listing.size(name) > LARGEST:
            raise convert.BadImageError(f"{listing.size(name):,} bytes are too many")
        return listing.read(name)
    except convert.BadImageError:
        raise
    except Exception as error:  # a vanished file, a broken or exotic zip entry
        raise convert.BadImageError(convert.reason(error)) from error


def _looked_at(listing: Listing, crew: Crew, ahead: Ahead) -> Iterator[_Looked]:
    """All files, block by block; the small ones decoded ahead as long as there is a guess."""
    # Threads that read and hash little get in each other's way.
    threads = workers() if sum(map(listing.size, listing.names)) > _SMALL * len(listing.names) else 1
    with ThreadPoolExecutor(threads) as pool:

        def submit(names: Sequence[str]) -> Promise[_Looked]:
            if ahead.guess is None or any(listing.size(name) > SMALL_BYTES for name in names):
                return pool.submit(_look, listing, names)
            files, bad = _read_all(listing, names)
            return crew.submit([*files.values()], ahead.guess, lambda decoded: _sorted_out(files, bad, decoded))

        yield from in_order(submit, _tasks(listing.names))


def _look(listing: Listing, names: Sequence[str]) -> _Looked:
    headers: list[_Header] = []
    bad: list[rules.Bad] = []
    for name in names:
        try:
            with _room(listing.size(name)):
                data = _read(listing, name)
                headers.append(_header(name, data, convert.header(convert.open_picture(data))))
                del data  # before the next one is read
        except convert.BadImageError as error:
            bad.append((name, str(error)))
    return _Looked(headers, bad, {})


def _sorted_out(files: Mapping[str, bytes], bad: list[rules.Bad], decoded: Decoded) -> _Looked:
    rows, outcomes = decoded
    headers = []
    for (name, data), (reason, header) in zip(files.items(), outcomes, strict=True):
        if header is not None:
            headers.append(_header(name, data, header))
        else:
            bad.append((name, str(reason)))
    good = [name for name, outcome in zip(files, outcomes, strict=True) if outcome.reason is None]
    return _Looked(headers, bad, dict(zip(good, rows, strict=True)))


def _header(name: str, data: bytes, header: convert.Header) -> _Header:
    return _Header(name, hashlib.sha256(data).hexdigest(), len(data), header.size, header.grey)


def _read_all(listing: Listing, names: Sequence[str]) -> tuple[dict[str, bytes], list[rules.Bad]]:
    files: dict[str, bytes] = {}
    bad: list[rules.Bad] = []
    for name in names:
        try:
            files[name] = _read(listing, name)
        except convert.BadImageError as error:
            bad.append((name, str(error)))
    return files, bad


def _decoded(
    listing: Listing, headers: Sequence[_Header], options: DataOptions, crew: Crew, ahead: Ahead
) -> Iterator[Block]:
    """All pictures, block by block: those that are made already, small ones by the crew, others by threads."""
    with ThreadPoolExecutor(workers()) as pool:

        def submit(part: Sequence[_Header]) -> Promise[Block]:
            names = tuple(header.name for header in part)
            if (rows := ahead.take(names)) is not None:
                return done(Block(rows, names))
            if not crew or any(header.length > SMALL_BYTES or header.pixels > SMALL_PIXELS for header in part):
                return pool.submit(_decode, listing, part, options)
            files, bad = _read_again(listing, part)
            return crew.submit([*files.values()], options, lambda decoded: _block(files, bad, decoded))

        yield from in_order(submit, _tasks(headers))


def _decode(listing: Listing, headers: Sequence[_Header], options: DataOptions) -> Block:
    rows = np.empty((len(headers), *rules.item_shape(options)), np.uint8)
    good: list[str] = []
    bad: list[rules.Bad] = []
    for header in headers:
        with _room(max(header.pixels, header.length)):
            files, changed = _read_again(listing, [header])
            block = _block(files, changed, convert.pictures([*files.values()], options))
        rows[len(good) : len(good) + len(block.rows)] = block.rows
        good.extend(block.names)
        bad.extend(block.bad)
    return Block(rows[: len(good)], tuple(good), tuple(bad))


def _read_again(listing: Listing, headers: Sequence[_Header]) -> tuple[dict[str, bytes], list[rules.Bad]]:
    files, bad = _read_all(listing, [header.name for header in headers])
    for header in headers:
        data = files.get(header.name)
        if data is not None and hashlib.sha256(data).hexdigest() != header.content:
            del files[header.name]
            bad.append((header.name, "changed while it was being read"))
    return files, bad


def _block(files: Mapping[str, bytes], bad: Sequence[rules.Bad], decoded: Decoded) -> Block:
    rows, outcomes = decoded
    reasons = [(name, outcome.reason) for name, outcome in zip(files, outcomes, strict=True)]
    names = tuple(name for name, reason in reasons if reason is None)
    return Block(rows, names, (*bad, *((name, reason) for name, reason in reasons if reason is not None)))
