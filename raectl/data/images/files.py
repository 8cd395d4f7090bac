"""Pack many image files, of a folder or a zip, into one array: hash them and read their headers, then decode them.

Some of those with wide values are converted when they are read the first time, see `_Prefetch`.
"""

import contextlib
import functools
import hashlib
import itertools
import math
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np

from raectl.cores import usable_cores
from raectl.data import limits
from raectl.data.dataset import Dataset
from raectl.data.images import decode, stored
from raectl.data.images.frames import Frames, LastFile
from raectl.data.images.parallel import in_threads
from raectl.data.labels import METADATA, Labels, from_folders, from_metadata
from raectl.data.options import DataOptions
from raectl.data.packing import PackingTask, packed
from raectl.data.pieces import Block
from raectl.data.values import Extremes, Values, decide, stored_bits, type_of
from raectl.progress import Progress
from raectl.storage.cache import digest, digest_of_many

LARGEST = 256 * 2**20  # bytes of one file, or of one unpacked entry of a zip
_PER_TASK, _BYTES_PER_TASK = 64, 2**22  # images decoded by one task, and bytes of their files or rows, at most
_GUESSED = 8  # images from which the others are guessed
_LARGE = 2**24  # bytes or pixels of an image above which only one is read or decoded at a time
_SMALL = 2**16  # mean bytes of a file up to which one thread reads and hashes them all
_PREFETCHED, _PER_ROW = 2**26, 300  # bytes of images decoded ahead, and of what one takes beside its pixels
_PREFETCHED_OF_FILE = 2**22  # bytes of frames of one file
_COLOURS = frozenset({1, 3})  # numbers of channels that become each other
_large_lock = threading.Lock()

T = TypeVar("T")


@dataclass(frozen=True)
class ImageFiles:
    """Image files, before any of them is read."""

    source: str  # absolute path, as `open_dataset` accepts it
    names: tuple[str, ...]  # relative paths with `/`, sorted
    size: Callable[[str], int]  # bytes of a file, unpacked, without reading it
    read: Callable[[str], bytes]  # content of a file; any exception means that it is bad
    state: str  # a digest that changes when one of the files does
    bad: tuple[limits.Bad, ...] = ()  # files that are not to be read
    others: tuple[str, ...] = ()  # names of files that are no images
    metadata: Callable[[], bytes] | None = None  # content of a `metadata.csv` beside them, if there is one


@dataclass(frozen=True, slots=True)  # there may be a million
class _Header:
    name: str
    file: str  # the same, but for frames of one file
    frame: int  # its number, from 0
    content: bytes  # SHA-256 of the file
    size: tuple[int, int]  # (width, height)
    channels: int  # without alpha
    frames: int
    values: Values | None  # of wider values than bytes

    @property
    def pixels(self) -> int:
        return math.prod(self.size)


class _Prefetch:
    """Images converted ahead: at the first reading, with options guessed from the first few.

    The headers of all images determine their size and channels, and their values, if they are wide, the range. For that
    these are decoded at the first reading, which is most of the work. At most 64 MiB of rows are kept, by name. While
    `guess` is None, nothing is converted ahead.
    """

    def __init__(self, guess: DataOptions | None) -> None:
        self.guess = guess
        self._decoded_with = guess
        self._rows: dict[str, np.ndarray] = {}
        self._budget = _PREFETCHED
        self.last = LastFile()

    def keep(self, rows: Mapping[str, np.ndarray]) -> None:
        """Keep rows; sets `guess` to None once the memory for them is used up."""
        self._rows.update(rows)
        self._budget -= sum(row.nbytes + _PER_ROW for row in rows.values())
        if self._budget <= 0:
            self.guess = None

    def confirm(self, options: DataOptions) -> None:
        """Drop all rows if the guess was wrong."""
        if options != self._decoded_with:
            self._rows.clear()

    def pop(self, names: Sequence[str]) -> np.ndarray | None:
        """Remove and return the rows of these images, stacked; None if one is missing."""
        rows = [self._rows.pop(name, None) for name in names]
        known = [row for row in rows if row is not None]
        return np.stack(known) if len(known) == len(names) else None


class _Scan(NamedTuple):
    """Headers of good files, (name, reason) of bad ones, and rows by name of those decoded ahead."""

    headers: list[_Header]
    bad: list[limits.Bad]
    rows: dict[str, np.ndarray]


def open_image_files(files: ImageFiles, options: DataOptions, background: str, progress: Progress) -> Dataset:
    """A dataset of image files, labelled by a `metadata.csv`, or by their folders if all of them lie in some.

    Raises:
        RaectlError: none of them is good, or too many are bad.
    """
    state = digest(files.source, files.state)
    # The filter is global to the process, so it is set here once and not by the threads. Pillow's warnings (odd EXIF
    # data, nearly too many pixels) say nothing that a user could act on.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = packed(state, options, lambda: _prepare(files, options, background, progress), progress)
    dataset = result.dataset("images", files.source, options)
    notes = dataset.notes
    found: Labels | str | None = ""
    if files.metadata:
        found = from_metadata(files.metadata(), dataset.names, limits.shown(f"{files.source}/{METADATA}"))
    if isinstance(found, str):  # why there are none
        notes, found = (*notes, *filter(None, [found])), from_folders(dataset.names)
    labels, classes = found or (None, ())
    return replace(dataset, labels=labels, classes=classes, notes=notes)


def _tasks(items: Sequence[T], nbytes: int) -> list[Sequence[T]]:
    """Items of so many bytes each, on average, divided into tasks."""
    step = max(1, min(_PER_TASK, len(items) // (4 * usable_cores()), _BYTES_PER_TASK // nbytes))
    return [items[start : start + step] for start in range(0, len(items), step)]


def _prepare(files: ImageFiles, options: DataOptions, background: str, progress: Progress) -> PackingTask:
    """Read every file once, for its digest and its header, and resolve the options."""
    headers: list[_Header] = []
    bad = list(files.bad)
    total = len(files.names) + len(bad)
    prefetch = _Prefetch(_guess(files, options, background))
    for scan in _scan_all(files, options.frames, prefetch):
        headers.extend(scan.headers)
        bad.extend(scan.bad)
        prefetch.keep(scan.rows)
        total = max(total, len(headers) + len(bad))  # a file may have many frames
        progress.update("reading images", len(headers) + len(bad), total)
        if scan.bad and limits.too_many(len(bad), total, options):
            break
    headers, broken = _without_broken_outliers(files, headers)
    headers, others = _of_one_kind(headers, options.channels)
    bad.extend(broken + others)
    total = max(total, len(headers) + len(bad))
    limits.tolerate(bad, total, files.source, options)
    resolved, notes = _resolve(options, headers, background)
    notes += _of_others(files)
    prefetch.confirm(resolved)
    shape = limits.item_shape(resolved)

    def blocks(start: int) -> Generator[Block, None, None]:
        done, left = start, headers[start:]
        tasks = _tasks(left, max(_mean_size(files, len(headers)), math.prod(shape)))
        for block in in_threads(partial(_decode, files, resolved, prefetch), tasks):
            done += block.count
            yield block
            progress.update("decoding images", done, len(headers))

    content = digest_of_many(((header.name, header.content.hex()) for header in headers), sorted(bad))
    found, names = _found(files, headers), [header.name for header in headers]
    return PackingTask(files.source, content, resolved, shape, total, blocks, tuple(bad), notes, found, names=names)


def _guess(files: ImageFiles, options: DataOptions, background: str) -> DataOptions | None:
    """The resolved options if all images are like the first few."""
    headers = _scan(files, files.names[:_GUESSED], options.frames, most=_GUESSED).headers
    return _resolve(options, headers, background)[0] if headers else None


def _resolve(options: DataOptions, headers: Sequence[_Header], background: str) -> tuple[DataOptions, tuple[str, ...]]:
    sizes = {header.size for header in headers}
    found: dict[str, Extremes] = {}
    for kind, extremes in filter(None, (header.values for header in headers)):
        found[kind] = found[kind] | extremes if kind in found else extremes
    has_bytes = any(header.values is None for header in headers)
    chosen, notes = decide(found, options.range, has_bytes=has_bytes, bits=options.bits)
    channels = max(header.channels for header in headers)
    resolved, more = limits.resolve(options, sizes, channels, background)
    notes = (*more, *notes, *_of_frames(headers), *_of_colour(headers, resolved))
    bits = stored_bits(chosen, options.bits)
    return replace(resolved, range=chosen, bits=bits, dtype=type_of(found)), notes


def _found(files: ImageFiles, headers: Sequence[_Header]) -> dict[str, Any]:
    """See `Dataset.found`."""
    suffixes, others = (
        dict(Counter(map(limits.suffix, names)).most_common())
        for names in ((*files.names, *(name for name, _ in files.bad)), files.others)
    )
    grey = sum(header.channels == 1 for header in headers)
    frames = sum(header.frames for header in headers)
    colour = sum(header.channels == 3 for header in headers)
    bands = Counter(header.channels for header in headers if header.channels not in _COLOURS)
    found = {"suffixes": suffixes, "others": others, "frames": frames, "grey": grey, "colour": colour}
    return found | ({"bands": {str(count): n for count, n in bands.items()}} if bands else {})


def _of_others(files: ImageFiles) -> tuple[str, ...]:
    """A note on files that are no images, by suffix."""
    counts = Counter(limits.suffix(name) or "no suffix" for name in files.others)
    if not counts:
        return ()
    listed = ", ".join(f"{count:,} {limits.shown(suffix)}" for suffix, count in counts.most_common(limits.NAMED))
    more = f", and {len(counts) - limits.NAMED:,} suffixes more" if len(counts) > limits.NAMED else ""
    return (f"{counts.total():,} files are no images of a known format and were left out: {listed}{more}",)


def _of_frames(headers: Sequence[_Header]) -> tuple[str, ...]:
    """A note if images have more frames than one."""
    many = [header for header in headers if header.frames > 1]
    if not many:
        return ()
    total, left_out = sum(header.frames for header in many), sum(header.frames - 1 for header in many)
    what = f"{limits.shown(many[0].name)} holds" if len(many) == 1 else f"{len(many):,} of {len(headers):,} images hold"
    return (f"{what} {total:,} frames: of each the first is taken, {left_out:,} are left out",)


def _of_colour(headers: Sequence[_Header], options: DataOptions) -> tuple[str, ...]:
    """A note if grey images become colour, as others are, or colour ones grey, as a model takes them."""
    changed = [header for header in headers if header.channels != options.channels]
    if not changed:
        return ()
    becomes = "grey" if options.channels == 1 else "colour"
    kept = [header for header in headers if header.channels == options.channels]
    odd = min(changed, kept, key=len) if kept else changed
    named = ", ".join(limits.shown(header.name) for header in odd[: limits.NAMED])
    named += f", and {len(odd) - limits.NAMED:,} more" if len(odd) > limits.NAMED else ""
    if len(changed) == len(headers):
        return (f"all {len(headers):,} images became {becomes}, as the model takes them",)
    are = {"grey": "colour", "colour": "grey"}[becomes] if odd is changed else becomes
    return (f"{len(odd):,} of {len(headers):,} images are {are}, the others not: all became {becomes} ({named})",)


def _without_broken_outliers(files: ImageFiles, headers: list[_Header]) -> tuple[list[_Header], list[limits.Bad]]:
    """Decode the images that differ in size or channels from most, if they are few, and drop those that fail.

    So a broken file cannot decide what all images are brought to. Returns the other headers, and what is bad.
    """
    counts = Counter((header.size, header.channels) for header in headers)
    usual = max(counts, key=lambda kind: counts[kind], default=None)
    odd = [header for header in headers if (header.size, header.channels) != usual]
    if not odd or len(odd) > limits.NAMED:
        return headers, []
    bad: dict[str, str] = {}
    for header in odd:
        channels = 3 if header.channels in _COLOURS else header.channels
        frames = "first" if header.name == header.file else "all"
        options = DataOptions(image_size=limits.DEFAULT_SIZE, background="white", channels=channels, frames=frames)
        bad.update(_decode(files, options, _Prefetch(None), [header]).bad)
    return [header for header in headers if header.name not in bad], list(bad.items())


def _of_one_kind(headers: list[_Header], wanted: int | None) -> tuple[list[_Header], list[limits.Bad]]:
    """The headers of the number of channels that most have, or a model takes, and the others, which are bad.

    Grey and colour are one kind, since they become each other.
    """
    counts = Counter(3 if header.channels in _COLOURS else header.channels for header in headers)
    usual = wanted or max(counts, key=lambda channels: counts[channels], default=3)
    kept = _COLOURS if usual in _COLOURS else {usual}
    why = f"the model takes {wanted}" if wanted else "most have " + ("1 or 3" if usual in _COLOURS else str(usual))
    bad = [(h.name, f"{h.channels} channels, and {why}") for h in headers if h.channels not in kept]
    return [header for header in headers if header.channels in kept], bad


def _one_if_large(extent: int) -> contextlib.AbstractContextManager[object]:
    """A lock for large images, by their bytes or pixels: several at once could exhaust the memory."""
    return _large_lock if extent > _LARGE else contextlib.nullcontext()


def _read(files: ImageFiles, name: str) -> bytes:
    try:
        if files.size(name) > LARGEST:
            raise decode.BadImageError(f"{files.size(name):,} bytes are too many")
        return files.read(name)
    except decode.BadImageError:
        raise
    except Exception as error:  # a vanished file, a broken or exotic zip entry
        raise decode.BadImageError(decode.reason(error)) from error


def _scan_all(files: ImageFiles, which: str, prefetch: _Prefetch) -> Iterator[_Scan]:
    """Scan all files, task by task."""
    nbytes = _mean_size(files, len(files.names))
    # Several threads that read and hash small files slow each other down.
    threads = usable_cores() if nbytes > _SMALL else 1
    return in_threads(lambda names: _scan(files, names, which, prefetch.guess), _tasks(files.names, nbytes), threads)


def _mean_size(files: ImageFiles, count: int) -> int:
    """Bytes of one of so many images, or of a file if these are more, at least 1."""
    return 1 + sum(map(files.size, files.names)) // max(1, count, len(files.names))


def _scan(
    files: ImageFiles, names: Sequence[str], which: str, guess: DataOptions | None = None, most: int | None = None
) -> _Scan:
    """Read files and their headers; those whose values had to be decoded for that are converted too, with a guess.

    Arguments:
        which: of their frames.
        most: number of headers after which no more are read.
    """
    scan = _Scan([], [], {})
    for name in names:
        try:
            with _one_if_large(files.size(name)):
                _scan_frames(scan, name, Frames(_read(files, name), which), guess, most)
        except decode.BadImageError as error:
            scan.bad.append((name, str(error)))
    return scan


def _scan_frames(scan: _Scan, file: str, frames: Frames, guess: DataOptions | None, most: int | None) -> None:
    content, room = hashlib.sha256(frames.data).digest(), _PREFETCHED_OF_FILE
    for index in range(len(frames)):
        if most is not None and len(scan.headers) >= most:
            return
        name = frames.name(file, index)
        try:
            picture = frames.picture(index)
            header, values = frames.header(picture), decode.values(picture)
            size = _shared(header.size)
            scan.headers.append(_Header(name, file, index, content, size, header.channels, header.frames, values))
            if guess and values and room > 0:
                with contextlib.suppress(decode.BadImageError):  # which will be found again
                    scan.rows[name] = stored.row(picture, guess)
                    room -= scan.rows[name].nbytes
        except decode.BadImageError as error:
            scan.bad.append((name, str(error)))


@functools.cache
def _shared(size: tuple[int, int]) -> tuple[int, int]:
    """The first tuple of these values, so that a million images need only one."""
    return size


def _decode(files: ImageFiles, options: DataOptions, prefetch: _Prefetch, headers: Sequence[_Header]) -> Block:
    """Read files once more, and convert them, unless all were converted ahead; one whose digest has changed is bad."""
    if (ahead := prefetch.pop([header.name for header in headers])) is not None:
        return Block(ahead)
    rows, good = np.empty((len(headers), *limits.item_shape(options)), options.stored), 0
    bad: list[limits.Bad] = []
    for file, group in itertools.groupby(headers, key=lambda header: header.file):
        frames = [*group]
        extent = max(files.size(file), *(header.pixels for header in frames))
        with _one_if_large(extent):
            for header in frames:
                try:
                    rows[good] = _row(files, header, options, prefetch.last)
                    good += 1
                except decode.BadImageError as error:
                    bad.append((header.name, str(error)))
            if extent > _LARGE:
                prefetch.last.drop()
    return Block(rows[:good], tuple(bad))


def _row(files: ImageFiles, header: _Header, options: DataOptions, last: LastFile) -> np.ndarray:
    frames = last.get(header.content)
    if frames is None:
        data = _read(files, header.file)
        if hashlib.sha256(data).digest() != header.content:
            raise decode.BadImageError("changed while it was being read")
        frames = last.keep(header.content, Frames(data, options.frames))
    return stored.row(frames.picture(header.frame), options)
