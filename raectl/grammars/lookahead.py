"""What may come next in a string of a grammar, two characters of it, or all there are before its end."""

from collections.abc import Mapping
from typing import TypeVar

from raectl.errors import RaectlError

Symbols = tuple[int | str, ...]  # left sides by index, text by character
Rule = TypeVar("Rule", bound=int)

_WORK = 2**21  # strings looked at: one or two seconds, 300 MB at most; the grammar of SMILES takes 2**17


class Lookahead:
    """How every end of a right side begins, with whatever may follow it.

    Arguments:
        rights: the right side of each rule.
        left: the left side of each rule, by index.
        end: what follows the strings of the last left side.

    Raises:
        RaectlError: the grammar needs too much work, as one of long right sides of which each part may be nothing.
    """

    def __init__(self, rights: Mapping[int, Symbols], left: Mapping[int, int], end: str) -> None:
        self._work = _WORK
        self._first: list[set[str]] = [set() for _ in range(max(left.values()) + 1)]
        follow: list[set[str]] = [set() for _ in self._first]
        follow[-1] = {end}
        changed = True
        while changed:
            changed = False
            for rule, right in rights.items():
                changed |= _grow(self._first[left[rule]], self._beginnings(right, {""})[0])
        changed = True
        while changed:
            changed = False
            for rule, right in rights.items():
                for symbol, after in zip(right, self._beginnings(right, follow[left[rule]])[1:], strict=True):
                    if isinstance(symbol, int):
                        changed |= _grow(follow[symbol], after)
        self._found = {rule: self._beginnings(right, follow[left[rule]]) for rule, right in rights.items()}

    def of(self, rule: int, read: int) -> set[str]:
        """What may come next where so many symbols of a right side have been read."""
        return self._found[rule][read]

    def _beginnings(self, right: Symbols, after: set[str]) -> list[set[str]]:
        """The beginnings of `right[read:]` with `after` behind it, for each `read`."""
        found = [after]
        for symbol in reversed(right):
            found.append(_joined({symbol} if isinstance(symbol, str) else self._first[symbol], found[-1]))
            self._work -= len(found[-1])
            if self._work < 0:
                hint = "split long right sides, and those of which each part may be nothing"
                raise RaectlError("the grammar is too ambiguous: too much may come next", hint)
        return found[::-1]


def _joined(starts: set[str], after: set[str]) -> set[str]:
    """The first two characters of a string of one set with one of the other behind it."""
    heads = {string[:1] for string in after}
    joined = {start for start in starts if len(start) == 2}
    joined.update(start + head for start in starts if len(start) == 1 for head in heads)
    return joined | after if "" in starts else joined


def _grow(known: set[str], new: set[str]) -> bool:
    before = len(known)
    known |= new
    return len(known) > before
