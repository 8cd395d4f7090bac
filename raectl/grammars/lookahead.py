"""Two-character lookahead sets of a grammar: FIRST and FOLLOW of LR parsing, with k = 2."""

from collections.abc import Mapping
from typing import TypeVar

from raectl.errors import RaectlError

Symbols = tuple[int | str, ...]  # nonterminals by index, text by character
Rule = TypeVar("Rule", bound=int)

_WORK = 2**21  # strings computed: one or two seconds, 300 MB at most; the grammar of SMILES takes 2**17


def lookahead(rights: Mapping[int, Symbols], left: Mapping[int, int], end: str) -> dict[int, list[set[str]]]:
    """The first two characters that may follow each position in the right side of each production.

    Arguments:
        rights: the right side of each production.
        left: index of the left side of each production.
        end: the text that follows the strings of the last nonterminal.

    Returns:
        For each production, the characters that may come next after so many symbols of its right side.

    Raises:
        RaectlError: it takes too much work, as with long right sides whose parts may all be empty.
    """
    first: list[set[str]] = [set() for _ in range(max(left.values()) + 1)]
    follow: list[set[str]] = [set() for _ in first]
    follow[-1] = {end}
    work = _WORK

    def beginnings(right: Symbols, after: set[str]) -> list[set[str]]:
        """The beginnings of `right[read:]` followed by `after`, for each `read`."""
        nonlocal work
        sets = [after]
        for symbol in reversed(right):
            sets.append(_joined({symbol} if isinstance(symbol, str) else first[symbol], sets[-1]))
            work -= len(sets[-1])
            if work < 0:
                hint = "split long right sides, and those whose parts may all be empty"
                raise RaectlError("the grammar is too ambiguous: too many characters may follow each other", hint)
        return sets[::-1]

    changed = True
    while changed:
        changed = False
        for rule, right in rights.items():
            changed |= _grow(first[left[rule]], beginnings(right, {""})[0])
    changed = True
    while changed:
        changed = False
        for rule, right in rights.items():
            for symbol, after in zip(right, beginnings(right, follow[left[rule]])[1:], strict=True):
                if isinstance(symbol, int):
                    changed |= _grow(follow[symbol], after)
    return {rule: beginnings(right, follow[left[rule]]) for rule, right in rights.items()}


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
