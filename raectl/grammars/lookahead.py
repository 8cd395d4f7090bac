"""Two-character lookahead sets of a grammar: FIRST and FOLLOW of LR parsing, with k = 2."""

from collections.abc import Mapping
from typing import TypeVar

from raectl.errors import RaectlError

Symbols = tuple[int | str, ...]  # nonterminals by index, text by character
Rule = TypeVar("Rule", bound=int)

_WORK = 2**21  # strings computed: one or two seconds, 300 MB at most; the grammar of SMILES takes 2**17


class Lookahead:
    """The first two characters that may follow each position in the right side of each production.

    Arguments:
        rights: the right side of each production.
        left: index of the left side of each production.
        end: the text that follows the strings of the last nonterminal.

    Raises:
        RaectlError: it takes too much work, as with long right sides whose parts may all be empty.
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
        self._sets = {rule: self._beginnings(right, follow[left[rule]]) for rule, right in rights.items()}

    def of(self, rule: int, read: int) -> set[str]:
        """The characters that may come next after `read` symbols of a production's right side."""
        return self._sets[rule][read]

    def _beginnings(self, right: Symbols, after: set[str]) -> list[set[str]]:
        """The beginnings of `right[read:]` followed by `after`, for each `read`."""
        sets = [after]
        for symbol in reversed(right):
            sets.append(_joined({symbol} if isinstance(symbol, str) else self._first[symbol], sets[-1]))
            self._work -= len(sets[-1])
            if self._work < 0:
                hint = "split long right sides, and those whose parts may all be empty"
                raise RaectlError("the grammar is too ambiguous: too many characters may follow each other", hint)
        return sets[::-1]


def _joined(starts: set[str], after: set[str]) -> set[str]:
    """The first two characters of the concatenations of a string of each set."""
    heads = {string[:1] for string in after}
    joined = {start for start in starts if len(start) == 2}
    joined.update(start + head for start in starts if len(start) == 1 for head in heads)
    return joined | after if "" in starts else joined


def _grow(known: set[str], new: set[str]) -> bool:
    before = len(known)
    known |= new
    return len(known) > before
