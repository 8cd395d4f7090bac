"""Limits for all sources: ranges of options, choice of size and channels, how many bad items are too many."""

import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import ImageColor

from raectl import grammars
from raectl.config import as_size, options_of, sides
from raectl.data import values
from raectl.data.options import DataOptions
from raectl.errors import RaectlError, UsageError, command

SIZE = options_of(DataOptions)["image_size"]
_KEPT = 128  # the default image size is that of the images if all have one and no side is larger
DEFAULT_SIZE = 64
NAMED = 5  # bad items named in a message, and the number that is tolerated whatever the total

# Suffixes of image files. No EPS or PDF (they run programs), no TGA (it has no signature).
_SUFFIXES = (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".webp", ".avif", ".bmp", ".dib", ".gif",
             ".tif", ".tiff", ".pbm", ".pgm", ".ppm", ".pnm")  # fmt: skip
# What files of these formats begin with; those of BMP and PPM are so short that text may begin alike.
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", *TIFF, b"\0\0\0\x0cjP  \r\n\x87\n")
# A camera's raw files are TIFFs whose first page is a thumbnail, or look like them.
_RAW = (".dng", ".nef", ".nrw", ".cr2", ".cr3", ".arw", ".srw", ".pef", ".orf", ".rw2", ".raf", ".3fr", ".iiq")
_LARGE_UNPACKED, _LARGEST_RATIO = 2**29, 100  # bytes, and a compression ratio: a file above both is refused
_LITTER = frozenset({"__MACOSX", "@eaDir"})  # made by archivers and file servers

Bad = tuple[str, str]  # name, reason


def suffix(name: str) -> str:
    """The lower-case suffix of a path's last part, with its dot, or an empty string."""
    _, dot, end = name.rpartition("/")[2].rpartition(".")
    return f".{end.lower()}" if dot else ""


def is_image_name(name: str) -> bool:
    """Whether a file name has the suffix of a supported image format."""
    return suffix(name) in _SUFFIXES


def is_image_content(name: str, head: bytes) -> bool:
    """Whether a file that begins with these bytes, 12 at least, is an image without being called one."""
    if suffix(name) in _RAW:
        return False
    return head.startswith(_SIGNATURES) or head[8:12] == b"WEBP" or head[4:12] in (b"ftypavif", b"ftypavis")


def is_litter(part: str) -> bool:
    """Whether a file or folder of this name is hidden, or made by an archiver or a file server."""
    return part.startswith(".") or part in _LITTER


def shown(name: str) -> str:
    """`name` for a message: unchanged, or quoted and escaped if it is empty or has control characters."""
    return name if name and name.isprintable() else repr(name)


def absolute(spec: str) -> Path:
    """The absolute path of a SOURCE. Links are not resolved: the suffix of the given name determines the kind."""
    return Path(os.path.abspath(spec))  # noqa: PTH100


def refuse_bomb(path: Path, unpacked: int) -> None:
    """Raise a `RaectlError` if a file that would unpack to so many bytes looks like a decompression bomb."""
    packed = path.stat().st_size
    if unpacked > _LARGE_UNPACKED and unpacked > _LARGEST_RATIO * packed:
        message = f"{shown(str(path))} would unpack from {packed:,} to {unpacked:,} bytes"
        raise RaectlError(message, "if that is intended, save it as .npy, which is memory-mapped")


def item_shape(options: DataOptions) -> tuple[int, int, int]:
    """(H, W, C) of the images, from resolved options."""
    assert options.image_size is not None
    assert options.channels is not None
    return *sides(options.image_size), options.channels


def check(options: DataOptions) -> None:
    """Raise a `UsageError` if the range of values or the colour is none."""
    if options.range is not None:
        values.parse(options.range)
    if options.background is not None:
        try:
            ImageColor.getrgb(options.background)
        except ValueError as error:
            hint = "give a name such as white, or #rrggbb"
            raise UsageError(f"unknown colour {options.background!r}", hint) from error


def check_bands(options: DataOptions, where: str) -> None:
    """Raise a `UsageError` if the channels to show, of resolved options, are none of the images'."""
    if options.bands is None:
        return
    if options.channels is None:
        raise UsageError(f"--bands has no effect on {shown(where)}: these are no images", "omit --bands")
    if max(map(int, options.bands.split(","))) > options.channels:
        message = f"--bands {options.bands}: {shown(where)} has {options.channels} channels, numbered from 1"
        raise UsageError(message, "--bands 1")


def resolve(
    options: DataOptions, sizes: Collection[tuple[int, int]], channels: int, background: str
) -> tuple[DataOptions, tuple[str, ...]]:
    """Fill in the options that the user left open; with a note if images are resized or cropped.

    Arguments:
        sizes: the distinct (width, height) of the images, in pixels.
        channels: of the images: 1 if all are grey, 3 if some are in colour, or another number.
        background: the source's default.
    """
    own = next(iter(sizes))[::-1] if len(sizes) == 1 else None  # (height, width)
    size, hint = options.image_size, ""
    if size is None:
        keeps_own = own is not None and max(own) <= _KEPT and all(map(SIZE.holds, own))
        size = as_size(*own) if own is not None and keeps_own else DEFAULT_SIZE
        hint = "; --image-size and --fit change that"
    notes: tuple[str, ...] = ()
    height, width = sides(size)
    scaled = [(w * height, h * width) for w, h in sizes]  # so that images of the target's shape are square
    lost = max(1 - min(wh) / max(wh) for wh in scaled) if options.fit == "crop" else 0.0
    cut = f", which cuts off {'up to ' if len(sizes) > 1 else ''}{lost:.0%} of each" if round(lost, 2) else ""
    hint = "; --fit pad keeps all of it" if cut else hint
    hint = ", as the model takes them" if options.channels is not None else hint
    # A size that the user gave for training is not noted, unless it crops; the size of an existing model is.
    if cut or ((height, width) != own and (options.image_size is None or options.channels is not None)):
        notes = (f"images of {_told(sizes)} became {height} x {width} by {options.fit}{cut}{hint}",)
    channels = options.channels or channels
    background = options.background or background
    resolved = replace(
        options, image_size=size, channels=channels, background=background, grammar=None, max_productions=None
    )
    return resolved, notes


def _told(sizes: Collection[tuple[int, int]]) -> str:
    """The sizes of images, (width, height), in words: height first, as options have them."""
    smallest, largest = (pick(sizes, key=lambda wh: (wh[0] * wh[1], wh))[::-1] for pick in (min, max))
    is_square = all(height == width for height, width in (smallest, largest))
    if len(sizes) == 1:
        return "{}x{}".format(*largest) + ("" if is_square else " (height x width)")
    order = "" if is_square else ", height x width"
    return "{} sizes (smallest {}x{}, largest {}x{}{})".format(len(sizes), *smallest, *largest, order)


_REMEDIES = {  # a part of the reason why all items of a source are bad
    "encrypted": "unpack it, which asks for the password: unzip ARCHIVE -d FOLDER",
    "Git LFS pointer": "fetch the images that they stand for: git lfs pull",
    "web page": "the download brought pages instead of images: download them again",
    "an empty file": "the copy or the download was cut short: make it again",
    "channels, and the model takes": "a model is for one number of channels: train another one on these",
    "channels are more than": "keep some of them: tifffile.imwrite('y.tif', tifffile.imread('x.tif')[..., :8])",
}


class BadItemsError(RaectlError):
    """Too many items are bad.

    Attributes:
        summary: the message without names.
        bad: (name, reason) of the bad items found so far.
        total: number of all items.
    """

    def __init__(self, summary: str, named: str, hint: str | None, bad: Sequence[Bad], total: int) -> None:
        super().__init__(f"{summary}: {named}", hint)
        self.summary, self.bad, self.total = summary, tuple(bad), total


def too_many(bad: int, total: int, options: DataOptions) -> bool:
    """Whether `bad` items are more than the options allow; always if no item is good."""
    if options.strict:
        return bad > 0
    return bad == total or (bad > NAMED and bad > options.max_bad * total)


def by_number(bad: Bad) -> list[tuple[bool, int, str]]:
    """Sort key by name, with numbers in the name compared by value.

    Example:
        >>> sorted([("line 10", ""), ("line 9", "")], key=by_number)[0][0]
        'line 9'
    """
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", bad[0])]


def tolerate(
    bad: Sequence[Bad], total: int, where: str, options: DataOptions, what: str = "images", *, so_far: bool = False
) -> tuple[str, ...]:
    """A note on the bad items, which are skipped, or () if there are none.

    Arguments:
        bad: (name, reason) of each.
        where, what: the source and the kind of items, for messages.
        so_far: not all items have been read yet, so the error says "at least".

    Raises:
        BadItemsError: there are more than `options.max_bad` allows.
    """
    if not bad:
        return ()
    named = ", ".join(f"{shown(name)} ({reason})" for name, reason in bad[:NAMED])
    named += f", and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    if too_many(len(bad), total, options):
        if len(bad) == total:
            summary = f"none of the {total} {what} in {shown(where)} could be read"
            raise BadItemsError(summary, named, _remedy(bad, where), bad, total)
        least = "at least " if so_far and len(bad) < total else ""
        summary = f"{least}{len(bad)} of {total} {what} in {shown(where)} could not be read"
        allowed = "none is allowed" if options.strict else f"up to {NAMED} are skipped, or {100 * options.max_bad:g} %"
        listed = f"{command('raectl', 'check', where, *_string_options(options))} lists them"
        raise BadItemsError(summary, named, f"repair or remove them: {allowed} (--max-bad); {listed}", bad, total)
    was = "was" if len(bad) == 1 else "were"
    return (f"{len(bad)} of {total} {what} could not be read and {was} skipped: {named}",)


def _remedy(bad: Sequence[Bad], where: str) -> str:
    """What to do where every item is bad: by the reason, if it is one for all."""
    for part, remedy in _REMEDIES.items():
        if all(part in reason for _, reason in bad):
            return remedy
    return f"is {shown(where)} the right SOURCE?"


def _string_options(options: DataOptions) -> Iterator[str]:
    """The options of strings as typed on the command line, with FILE for a grammar that is not built in."""
    if options.grammar is not None:
        known = {grammars.canonical(name): name for name in grammars.names()}
        yield from ("--grammar", known.get(grammars.canonical(options.grammar), "FILE"))
    if options.max_productions is not None:
        yield from ("--max-productions", str(options.max_productions))
