"""Many image files, in a folder or a zip, to one packed array: hash and look at the headers, then decode once."""

import hashlib
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from raectl.data import convert, rules
from raectl.data.base import Progress
from raectl.data.dataset import DataOptions, Dataset
from raectl.data.packing import Block, Job, digest, packed
from raectl.data.parallel import in_order, workers

_PER_TASK = 16  # images decoded by one task: enough to make the handing over cheap, few enough to spread


@dataclass(frozen=True)
class Listing:
    """Image files, before any of them is read.

    Arguments:
        source: absolute path, as `open_dataset` takes it.
        names: relative paths with `/`, sorted.
        read: bytes of one of them; any exception means that it is bad.
        state: changes whenever one of the files does.
        bad: files that are not to be read, and why.
    """

    source: str
    names: tuple[str, ...]
    read: Callable[[str], bytes]
    state: str
    bad: tuple[rules.Bad, ...] = ()


@dataclass(frozen=True)
class _Header:
    name: str
    content: str
    size: tuple[int, int]
    grey: bool


def open_pictures(listing: Listing, options: DataOptions, background: str, progress: Progress) -> Dataset:
    """The pictures of a listing, labelled by the first part of their paths if all of them lie in folders.

    Raises:
        RaectlError: none of them is good, or too many are bad.
    """
    state = digest(listing.source, listing.state)
    # The filter is global to the process, so it is set here once and not by the threads. Pillow's warnings (odd EXIF
    # data, nearly too many pixels) say nothing that a user could act on.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = packed(state, options, lambda: _prepare(listing, options, background, progress))
    classes, labels = _labels(result.names)
    return Dataset(
        items=result.items,
        modality="images",
        source=listing.source,
        options=result.options,
        names=result.names,
        labels=labels,
        classes=classes,
        notes=result.notes + rules.tolerate(result.skipped, result.total, listing.source),
        skipped=result.skipped,
        known_fingerprint=result.known_fingerprint,
    )


def _labels(names: tuple[str, ...]) -> tuple[tuple[str, ...], np.ndarray | None]:
    if not all("/" in name for name in names):
        return (), None
    classes, labels = np.unique([name.partition("/")[0] for name in names], return_inverse=True)
    return tuple(classes.tolist()), labels.astype(np.int64)


def _tasks(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    step = max(1, min(_PER_TASK, len(names) // (4 * workers())))
    return [names[start : start + step] for start in range(0, len(names), step)]


def _prepare(listing: Listing, options: DataOptions, background: str, progress: Progress) -> Job:
    """Read every file once, for its digest and its header, and settle what the images become."""
    headers: list[_Header] = []
    bad = list(listing.bad)
    total = len(listing.names) + len(bad)
    for found, refused in in_order(lambda names: _look(listing, names), _tasks(listing.names)):
        headers.extend(found)
        bad.extend(refused)
        progress("reading images", len(headers) + len(bad), total)
    headers, broken = _without_broken_outliers(listing, headers)
    bad.extend(broken)
    rules.tolerate(bad, total, listing.source)
    sizes = {header.size for header in headers}
    resolved, notes = rules.resolve(options, sizes, all(header.grey for header in headers), background)
    good = tuple(header.name for header in headers)

    def blocks() -> Iterator[Block]:
        done = 0
        for block in in_order(lambda names: _decode(listing, names, resolved), _tasks(good)):
            done += len(block.rows) + len(block.bad)
            yield block
            progress("decoding images", done, len(good))

    content = digest([(header.name, header.content) for header in headers], sorted(bad))
    return Job(listing.source, content, resolved, rules.item_shape(resolved), total, blocks, tuple(bad), notes)


def _without_broken_outliers(listing: Listing, headers: list[_Header]) -> tuple[list[_Header], list[rules.Bad]]:
    """Drop images that cannot be decoded among the few of an odd size: a broken one must not decide the size of all."""
    counts = Counter(header.size for header in headers)
    usual = max(counts, key=lambda size: counts[size], default=None)
    odd = [header.name for header in headers if header.size != usual]
    if not odd or len(odd) > rules.NAMED:
        return headers, []
    options = DataOptions(image_size=rules.DEFAULT_SIZE, background="white", channels=3)
    bad = dict(_decode(listing, tuple(odd), options).bad)
    return [header for header in headers if header.name not in bad], list(bad.items())


def _read(listing: Listing, name: str) -> bytes:
    try:
        return listing.read(name)
    except convert.BadImageError:
        raise
    except Exception as error:  # a vanished file, a broken or exotic zip entry
        raise convert.BadImageError(convert.reason(error)) from error


def _look(listing: Listing, names: tuple[str, ...]) -> tuple[list[_Header], list[rules.Bad]]:
    headers: list[_Header] = []
    bad: list[rules.Bad] = []
    for name in names:
        try:
            data = _read(listing, name)
            size, grey = convert.header(data)
            headers.append(_Header(name, hashlib.sha256(data).hexdigest(), size, grey))
        except convert.BadImageError as error:
            bad.append((name, str(error)))
    return headers, bad


def _decode(listing: Listing, names: tuple[str, ...], options: DataOptions) -> Block:
    rows = np.empty((len(names), *rules.item_shape(options)), np.uint8)
    good: list[str] = []
    bad: list[rules.Bad] = []
    for name in names:
        try:
            rows[len(good)] = convert.picture(_read(listing, name), options)
            good.append(name)
        except convert.BadImageError as error:
            bad.append((name, str(error)))
    return Block(rows[: len(good)], tuple(good), tuple(bad))
