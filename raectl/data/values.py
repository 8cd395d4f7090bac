"""The range of a source's values that is stored, decided once for all of it: as bytes, or in 16 bits.

Bytes stay as they are unless the user gives a range. That of wider values is, in this order:

    what the user gives                          --range LO:HI
    what a model was trained with                for its own kind of values: bytes, integers or floats
    what the files declare                       their number of bits: PNG's sBIT, a TIFF of 12 bits a sample
    integers that are not negative               0 to the least 2^b - 1 that holds all of them, b from 8 to 16 or more
    floats near 0 to 1, -1 to 1 or 0 to 255      that, if nearly all of each image lie in it; the few beyond are clipped
    others                                       from the least value to the greatest

A folder, an archive and an array of the same values get the same range, and so the same stored values: 0 to 255 where
the range has no more than 256 levels, as of bytes, else 0 to 65535, as of all floats.
"""

import functools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from raectl.config import MOST_CHANNELS
from raectl.config.digits import ends, outward
from raectl.errors import UsageError

BYTES, INTEGERS, FLOATS = "bytes", "integers", "floats"
STORED: dict[int, type[np.unsignedinteger[Any]]] = {8: np.uint8, 16: np.uint16}  # types of stored values by their bits
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"(?:(?P<kind>{BYTES}|{INTEGERS}|{FLOATS}) )?(?P<low>{_NUMBER}):(?P<high>{_NUMBER})")
_USUAL = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))  # ranges of floats
_BEYOND, _MOST_BEYOND = 0.15, 0.25  # of a usual range's width that most, and all, may lie beyond it, after resizing
_LEAST = 32.0  # a greatest value below which floats are not taken for 0 to 255
_TAIL, _SAMPLED = 0.02, 4096  # share of an image's values left out at either end; values of it that are looked at
_EMPTY = 0.05  # of a range, below which it is said of a channel that its values fill hardly any of it
_FILLED = 0.25  # of a range, below which it is said that nearly all values lie in a part of it


class Range(NamedTuple):
    """The values that become 0 and the greatest stored one; what lies outside is clipped."""

    low: float
    high: float

    @classmethod
    def of(cls, kind: str, values: "Extremes") -> "Range":
        """What is chosen for values of a kind if no range is given."""
        return (_of_integers if kind == INTEGERS else _of_floats)(values)

    def __str__(self) -> str:
        return f"{self.low:.17g}:{self.high:.17g}"

    def scaled(self, values: np.ndarray, bits: int = 8) -> np.ndarray:
        """top (v - low) / (high - low), rounded and clipped: any numbers => uint8 or uint16 of the same shape.

        Arguments:
            bits: 8 or 16, with which top is 255 or 65535.

        Example:
            >>> Range(0, 4095).scaled(np.array([0, 2048, 4095, 5000])).tolist()
            [0, 128, 255, 255]
            >>> Range(-1, 1).scaled(np.array([-1.0, 0.0, 1.0]), 16).tolist()
            [0, 32768, 65535]
        """
        if values.dtype.kind in "iu" and values.dtype.itemsize == 2:
            return _table(self, values.dtype, bits)[values.view(np.uint16)]
        scaled = (values.astype(np.float64) - self.low) * (top_of(bits) / (self.high - self.low))
        # NaN, which only what cannot be seen may be, becomes 0.
        return np.fmax(np.rint(scaled), 0).clip(None, top_of(bits)).astype(STORED[bits])

    def restored(self, bits: int, dtype: np.dtype) -> np.ndarray:
        """The inverse, of every stored value: low + v (high - low) / top, rounded for integers => (top + 1,)."""
        stored = np.arange(top_of(bits) + 1, dtype=np.float64)
        values = self.low + stored * ((self.high - self.low) / top_of(bits))
        if dtype.kind in "iu":
            most = np.float64(np.iinfo(dtype).max)
            most = most if int(most) <= np.iinfo(dtype).max else np.nextafter(most, 0)  # of 64 bits
            values = np.rint(values).clip(np.iinfo(dtype).min, most)
        return values.astype(dtype)


def top_of(bits: int) -> int:
    """The greatest stored value."""
    return int(2**bits - 1)


def kind_of(dtype: np.dtype) -> str:
    """The kind of the values of a type: bytes, integers or floats."""
    return BYTES if dtype in (np.uint8, bool) else FLOATS if dtype.kind == "f" else INTEGERS


@functools.lru_cache(16)
def _table(chosen: Range, dtype: np.dtype, bits: int) -> np.ndarray:
    """What becomes of every value of two bytes, in the order of their bits: (65536,); a look-up is faster."""
    return chosen.scaled(np.arange(2**16, dtype=np.uint16).view(dtype).astype(np.int32), bits)


@dataclass(frozen=True)
class Extremes:
    """The least and the greatest value of an image, or of many.

    Arguments:
        bits: if all of their files declare that many.
        most: the same without the 2 % at either end of each image: hot pixels, overshoot; None if that is the same.
        dtype: the type of the values, one that holds all of them.
        channels: the least and the greatest value of each channel, if there are several.
    """

    low: float
    high: float
    bits: int | None = None
    most: tuple[float, float] | None = None
    dtype: str | None = None
    channels: tuple[tuple[float, float], ...] = ()

    @property
    def inner(self) -> tuple[float, float]:
        """Between which nearly all values of each image lie."""
        return self.most or (self.low, self.high)

    def __or__(self, other: "Extremes") -> "Extremes":
        bits = self.bits if self.bits == other.bits else None
        (low, high), (also_low, also_high) = self.inner, other.inner
        most = min(low, also_low), max(high, also_high)
        dtype = _joined(self.dtype, other.dtype) if self.dtype and other.dtype else None
        pairs = zip(self.channels, other.channels, strict=False)
        channels = tuple((min(a[0], b[0]), max(a[1], b[1])) for a, b in pairs)
        same = len(self.channels) == len(other.channels)
        low, high = min(self.low, other.low), max(self.high, other.high)
        return Extremes(low, high, bits, most, dtype, channels if same else ())


def _name(dtype: np.dtype) -> str:
    """The type in which values of a type are written: bytes for what is true or false, 64 bits for more."""
    if dtype.kind == "b":
        return "uint8"
    return "float64" if dtype.kind == "f" and dtype.itemsize > 8 else dtype.newbyteorder("=").name


def _joined(first: str, second: str) -> str:
    """A type of the same kind that holds the values of two, of all but the largest integers."""
    both, is_integer = np.result_type(first, second), np.dtype(first).kind in "iu"
    return "int64" if is_integer and both.kind == "f" else both.name


Values = tuple[str, Extremes]  # kind, and from where to where


def chosen(text: str | None, kind: str) -> Range | None:
    """The range of a kind of values in `--range`, or in what it was resolved to; None if it has none."""
    known = parse(text) if text else {}
    return known.get(kind, known.get(None))


def parse(text: str) -> dict[str | None, Range]:
    """Ranges by kind, from `LO:HI`, for every kind (None), or from `integers LO:HI, floats LO:HI`, as `told` writes it.

    Raises:
        UsageError: it is none of these.

    Example:
        >>> parse("0:4095")
        {None: Range(low=0.0, high=4095.0)}
    """
    found: dict[str | None, Range] = {}
    for part in str(text).split(", "):
        match = _RANGE.fullmatch(part.strip())
        low, high = (float(match[name]) for name in ("low", "high")) if match else (math.nan, math.nan)
        if match is None or not low < high or math.isinf(high - low) or match["kind"] in found:
            raise UsageError(f"--range {text!r} is no range LO:HI of two numbers, LO below HI", "--range 0:4095")
        found[match["kind"]] = Range(low, high)
    return found


def told(ranges: Mapping[str, Range]) -> str | None:
    """The inverse of `parse`, for ranges of a whole source; None if there are none, as of bytes."""
    return ", ".join(f"{kind} {chosen}" for kind, chosen in sorted(ranges.items())) or None


def extremes(parts: Iterable[np.ndarray], kind: str, bits: int | None = None) -> Extremes:
    """Of images, (n, ..., channels) each, that come in parts.

    Raises:
        ValueError: one is NaN or infinite; the text says how many, of how many values, and where the first one is.
    """
    low, high = math.inf, -math.inf
    least, greatest = math.inf, -math.inf
    bad, first, done = 0, 0, 0
    dtype, channels = None, _Channels()
    for part in parts:
        dtype = _name(part.dtype)
        finite = np.isfinite(part) if kind == FLOATS else np.True_
        if not finite.all():
            first = first if bad else done + int((~finite).reshape(-1).argmax())
            bad += int((~finite).sum())
        elif part.size:
            low, high = min(low, float(part.min())), max(high, float(part.max()))
            bottom, top = _most(part)
            least, greatest = min(least, bottom), max(greatest, top)
            channels.take(part)
        done += part.size
    if bad:
        raise NotFiniteError(bad, done, first)
    return Extremes(low, high, bits, (least, greatest) if least <= greatest else None, dtype, channels.found)


def greatest_alpha(parts: Iterable[np.ndarray]) -> float:
    """Of the alpha of images that come in parts; 0 at least.

    Raises:
        ValueError: as `extremes` does.
    """
    greatest, bad, first, done = 0.0, 0, 0, 0
    for part in parts:
        is_finite = np.isfinite(part)
        if not is_finite.all():
            first = first if bad else done + int((~is_finite).reshape(-1).argmax())
            bad += int((~is_finite).sum())
        else:
            greatest = max(greatest, float(part.max(initial=0)))
        done += part.size
    if bad:
        raise NotFiniteError(bad, done, first, of_alpha=True)
    return greatest


def finite(values: np.ndarray) -> np.ndarray:
    """The values, with 0 in place of what is NaN or infinite."""
    return np.where(np.isfinite(values), values, values.dtype.type(0)) if values.dtype.kind == "f" else values


class _Channels:
    """The least and the greatest value of each of several channels."""

    def __init__(self) -> None:
        self._low = self._high = np.empty(0)

    def take(self, images: np.ndarray) -> None:
        """Take up images, (n, ..., C)."""
        if images.ndim < 3 or not 1 < images.shape[-1] <= MOST_CHANNELS:
            return
        rows = images.reshape(-1, images.shape[-1])
        low, high = (np.array([pick(column) for column in rows.T], np.float64) for pick in (np.min, np.max))
        if not len(self._low):
            self._low, self._high = low, high
        self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)

    @property
    def found(self) -> tuple[tuple[float, float], ...]:
        """(least, greatest) of each; empty for a single one."""
        return tuple(zip(self._low.tolist(), self._high.tolist(), strict=True))


def _most(images: np.ndarray) -> tuple[float, float]:
    """Between which nearly all sampled values of each of n images lie, (n, ...)."""
    rows = images.reshape(len(images), -1)
    if rows.shape[1] > _SAMPLED:  # at random: regular steps would meet one channel, or some columns, only
        rows = rows[:, np.random.default_rng(0).integers(0, rows.shape[1], _SAMPLED)]
    tail = int(_TAIL * rows.shape[1])
    last = rows.shape[1] - 1 - tail
    rows = np.partition(rows, (tail, last), axis=1)
    return float(rows[:, tail].min()), float(rows[:, last].max())


class NotFiniteError(ValueError):
    """Values that are NaN or infinite.

    Arguments:
        count, total: how many, of how many.
        first: the position of the first one, in all values.
        of_alpha: whether they are of alpha alone.
    """

    def __init__(self, count: int, total: int, first: int, *, of_alpha: bool = False) -> None:
        super().__init__(f"{count:,} of {total:,} values {'of alpha ' * of_alpha}are NaN or infinite")
        self.count, self.total, self.first, self.of_alpha = count, total, first, of_alpha


def decide(
    found: Mapping[str, Extremes], given: str | None, *, has_bytes: bool, bits: int | None = None
) -> tuple[str | None, tuple[str, ...]]:
    """The ranges of a source whose values of each kind are these; with a note on each.

    Arguments:
        found: extremes by kind, but for bytes.
        given: `--range`, or the ranges that a model was trained with.
        has_bytes: whether some values are bytes.
        bits: in which a model takes them; None for what the ranges need.

    Returns:
        The ranges, as `parse` reads them, and sentences for the user.
    """
    ranges, notes = {}, _of_other_kinds(found, given, has_bytes=has_bytes)
    if has_bytes and (of_bytes := chosen(given, BYTES)):
        ranges[BYTES] = of_bytes
    for kind, values in found.items():
        ranges[kind] = chosen(given, kind) or Range.of(kind, values)
    top = top_of(stored_bits(told(ranges), bits))
    for kind, values in sorted(found.items()):
        notes.append(_note(kind, values, ranges[kind], chosen(given, kind) is not None, top))
        notes.append(_note_of_channels(values, ranges[kind]))
    return told(ranges), tuple(note for note in notes if note)


def stored_bits(text: str | None, given: int | None) -> int:
    """In how many bits values are stored, by their ranges, as `told` writes them, unless a model takes so many."""
    ranges = parse(text) if text else {}
    is_wide = any(kind == FLOATS or (kind == INTEGERS and high - low > 255) for kind, (low, high) in ranges.items())
    return given or (16 if is_wide else 8)


def type_of(found: Mapping[str, Extremes]) -> str:
    """The type in whose units a source's items are written: that of floats, of integers, or uint8 of bytes alone."""
    return next((found[kind].dtype or "float64" for kind in (FLOATS, INTEGERS) if kind in found), "uint8")


def _of_other_kinds(found: Mapping[str, Extremes], given: str | None, *, has_bytes: bool) -> list[str]:
    """A note if a model was trained on other kinds of values than these."""
    known = {kind: chosen for kind, chosen in (parse(given) if given else {}).items() if kind}
    here = sorted([*found, *([BYTES] if has_bytes else [])])
    if not known or not known.keys().isdisjoint(here):
        return []
    trained = " and ".join(f"{kind} from {ends(*known[kind])}" for kind in known)
    return [f"the model was trained on {trained}; these are {' and '.join(here)}, which have a range of their own"]


def _of_integers(values: Extremes) -> Range:
    if values.low < 0:
        return _between(values)
    bits = values.bits or max(8, int(values.high).bit_length())
    return Range(0.0, float(2 ** max(bits, int(values.high).bit_length()) - 1))


def _of_floats(values: Extremes) -> Range:
    least, greatest = values.inner
    for low, high in _USUAL:
        width = high - low
        is_near = low - _BEYOND * width <= least and greatest <= high + _BEYOND * width
        is_near &= low - _MOST_BEYOND * width <= values.low and values.high <= high + _MOST_BEYOND * width
        if is_near and (high == 1 or values.high >= _LEAST) and (low == 0 or values.low < 0):
            return Range(low, high)
    return _between(values)


def _between(values: Extremes) -> Range:
    return Range(values.low, values.high if values.high > values.low else values.low + 1)


def _note_of_channels(values: Extremes, chosen: Range) -> str:
    """Of channels that fill hardly any of the range, which is one for all of them."""
    width = chosen.high - chosen.low
    shares = [(high - low) / width for low, high in values.channels]
    few = [number for number, share in enumerate(shares, 1) if 0 < share < _EMPTY]
    if not few or max(shares) < _EMPTY:
        return ""
    shown = ", ".join(f"{number} ({shares[number - 1]:.1%})" for number in few[:5])
    more = f" and {len(few) - 5} more" if len(few) > 5 else ""
    return (
        f"channels that fill less than {_EMPTY:.0%} of the range, which is one for all: {shown}{more}; "
        "scale them alike before, as by x / x.max(axis=(0, 1, 2))"
    )


def _note(kind: str, values: Extremes, chosen: Range, is_given: bool, top: int) -> str:
    """What was decided; nothing for floats that fill 0 to 1 and integers that fill 16 bits, the usual cases."""
    held, taken = f"{kind} from {ends(values.low, values.high)}", ends(*chosen)
    clipped = values.low < chosen.low or values.high > chosen.high
    beyond = "; what lies beyond is clipped" if clipped else ""
    if is_given:
        return f"{held}: {taken} became 0 to {top}{beyond}" if clipped else ""
    least, greatest = values.inner
    filled = (greatest - least) / (chosen.high - chosen.low)
    if 0 < filled < _FILLED:
        shown = f"{held}: {taken} became 0 to {top}, of which nearly all fill {filled:.1%}"
        return f"{shown}; --range {outward(least, greatest)} spreads these and clips the rest"
    usual = (kind == FLOATS and chosen == (0, 1)) or (kind == INTEGERS and chosen in ((0, 255), (0, 65535)))
    if usual and not clipped:
        return ""
    declared = values.bits is not None and chosen.high == 2**values.bits - 1
    why = f", the {values.bits} bits that the files declare," if declared else ""
    return f"{held}: {taken}{why} became 0 to {top}{beyond}; --range LO:HI changes that"
