"""Two numbers for a message, in as many digits as tell them apart."""

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

_WHOLE = 2.0**53  # below which whole numbers are exact
_MOST_ZEROS = 20  # of a number that is written out


def ends(low: float, high: float) -> str:
    """`LOW to HIGH`, of six digits, or of more where these would not tell them apart; whole numbers in full.

    Example:
        >>> ends(0, 33554431), ends(1e9 + 0.125, 1e9 + 0.5), ends(0.1234567, 1e30)
        ('0 to 33554431', '1000000000.125 to 1000000000.5', '0.123457 to 1e+30')
    """
    width, size = high - low, max(abs(low), abs(high))
    digits = max(6, min(17, math.ceil(math.log10(size / width)) + 3)) if 0 < width < size else 6
    is_whole = [value == math.floor(value) and abs(value) < _WHOLE for value in (low, high)]
    return " to ".join(
        f"{v + 0.0:.0f}" if whole else f"{v:.{digits}g}" for v, whole in zip((low, high), is_whole, strict=True)
    )


def outward(low: float, high: float) -> str:
    """`LO:HI`, no narrower than these, in steps of at most a hundredth of what lies between.

    Example:
        >>> outward(20_000_000, 20_000_066)
        '20000000:20000066'
        >>> outward(0.12345, 0.987)
        '0.123:0.987'
    """
    step = Decimal(1).scaleb(math.floor(math.log10(high - low)) - 2)
    both = (low, ROUND_FLOOR), (high, ROUND_CEILING)
    return ":".join(_plain(Decimal(repr(float(end))).quantize(step, rounding) + 0) for end, rounding in both)


def _plain(value: Decimal) -> str:
    """Without trailing zeros, and with an exponent only where there would be many others."""
    if value and not -_MOST_ZEROS < value.adjusted() < _MOST_ZEROS:
        return format(value.normalize(), "e")
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
