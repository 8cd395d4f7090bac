"""The built-in expressions: the 100,000 univariate ones of the Grammar VAE."""

import itertools
from collections.abc import Iterator

from raectl.data.base import Progress, Source
from raectl.data.dataset import Dataset
from raectl.data.options import DataOptions
from raectl.data.packing import digest
from raectl.data.strings import Lines, open_strings

_VERSION = digest("expressions", 1)
_N = 100_000
_LEAVES = ("x", "1", "2", "3")
_BRACKETS = ("(", "sin(", "exp(")


class Expressions(Source):
    """The source of the name `expressions`. (A folder of that name is `./expressions`.)"""

    @classmethod
    def recognises(cls, spec: str) -> bool:
        return spec == "expressions"

    def open(self, spec: str, options: DataOptions, progress: Progress) -> Dataset:
        lines = Lines(spec, _VERSION, lambda: _VERSION, lambda: ((text, None) for text in expressions()), spec)
        return open_strings(lines, options, progress)


def expressions() -> Iterator[str]:
    """The data of Kusner, Paige, Hernández-Lobato, "Grammar Variational Autoencoder", ICML 2017, section 4.1.

    Line for line their file, which is the first 100,000 of an enumeration (no random sample of it):
    leaf operator leaf + U + V, with U a leaf or one in brackets, V a leaf or a leaf or a pair in brackets.

    Example:
        >>> next(expressions())
        'x+x+(x)+(x+x)'
    """
    pairs = [f"{a}{op}{b}" for op in "+*/" for a in _LEAVES for b in _LEAVES]
    first = [f"{bracket}{leaf})" for bracket in _BRACKETS for leaf in _LEAVES] + [*_LEAVES]
    second = [f"{bracket}{w})" for bracket in _BRACKETS for w in (*pairs, *_LEAVES)] + [*_LEAVES]
    return ("+".join(parts) for parts in itertools.islice(itertools.product(pairs, first, second), _N))
