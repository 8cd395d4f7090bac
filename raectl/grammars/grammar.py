"""A context-free grammar: indexed productions, and the strings that sequences of them derive."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

PADDING = "Nothing"  # left side of the last production, which pads a derivation at its end


class Symbol(NamedTuple):
    """A nonterminal, which is the left side of productions, or terminal text."""

    text: str
    is_text: bool = False


class Production(NamedTuple):
    """left -> right."""

    left: str
    right: tuple[Symbol, ...]


@dataclass(frozen=True)
class Grammar:
    """D productions: 0 .. D - 2 of the grammar, and the padding, D - 1.

    A derivation is a leftmost one: a sequence of indices of productions, each applied to the leftmost nonterminal,
    beginning with the start symbol, which is the left side of production 0.

    Example:
        >>> from raectl import grammars
        >>> grammar = grammars.read("S -> S '+' T | T\\nT -> 'x'")
        >>> grammar.string(bytes([0, 1, 2, 2]))
        'x+x'
    """

    productions: tuple[Production, ...]  # without the padding
    unused: tuple[str, ...] = ()  # nonterminals that are declared to have no productions

    @property
    def size(self) -> int:
        """D, the number of productions with the padding."""
        return len(self.productions) + 1

    @property
    def padding(self) -> int:
        return len(self.productions)

    @cached_property
    def lefts(self) -> tuple[str, ...]:
        """The L nonterminals in the order of their first production, the padding's last."""
        return (*dict.fromkeys(production.left for production in self.productions), PADDING)

    @cached_property
    def left(self) -> tuple[int, ...]:
        """Index of each production's left side, (D,)."""
        return (*(self.lefts.index(production.left) for production in self.productions), len(self.lefts) - 1)

    @cached_property
    def pushed(self) -> tuple[tuple[int, ...], ...]:
        """Indices of the nonterminals on each production's right side; none for one that is never applied."""
        applied = (p.right if self.is_applied(p) else () for p in self.productions)
        return (*(tuple(self.lefts.index(s.text) for s in right if not s.is_text) for right in applied), ())

    @cached_property
    def finite(self) -> frozenset[str]:
        """Nonterminals from which a string can be derived."""
        finite: set[str] = set()
        while True:
            more = {p.left for p in self.productions if all(s.is_text or s.text in finite for s in p.right)}
            if more <= finite:
                return frozenset(finite)
            finite |= more

    def is_applied(self, production: Production) -> bool:
        """Whether a production can be part of a finite derivation."""
        return all(symbol.is_text or symbol.text in self.finite for symbol in production.right)

    @cached_property
    def mask(self) -> tuple[tuple[bool, ...], ...]:
        """Which productions apply to which nonterminal, (L, D)."""
        applied = [*map(self.is_applied, self.productions), True]
        pairs = [*zip(self.left, applied, strict=True)]
        return tuple(tuple(own == left and ok for own, ok in pairs) for left in range(len(self.lefts)))

    @cached_property
    def alphabet(self) -> frozenset[str]:
        """The characters of all strings."""
        return frozenset(c for p in self.productions for s in p.right if s.is_text for c in s.text)

    def string(self, derivation: Iterable[int]) -> str | None:
        """The string that a sequence of productions derives; None if one does not apply or nonterminals remain."""
        parts: list[str] = []
        productions, padding = self.productions, self.padding
        stack = [Symbol(productions[0].left)]
        for rule in derivation:
            while stack and stack[-1].is_text:
                parts.append(stack.pop().text)
            if rule == padding and not stack:
                continue
            if rule >= padding or not stack or productions[rule].left != stack.pop().text:
                return None
            stack.extend(reversed(productions[rule].right))
        while stack and stack[-1].is_text:
            parts.append(stack.pop().text)
        return None if stack else "".join(parts)

    def text(self) -> str:
        """The grammar in the notation of its file, a production a line, without comments."""
        lines = [*self.unused, *(f"{p.left} -> {' '.join(map(_quoted, p.right))}".rstrip() for p in self.productions)]
        return "".join(f"{line}\n" for line in lines)


def _quoted(symbol: Symbol) -> str:
    quote = '"' if "'" in symbol.text else "'"
    return f"{quote}{symbol.text}{quote}" if symbol.is_text else symbol.text


def padded(derivation: Sequence[int], length: int, padding: int) -> bytes:
    """A derivation padded to `length` productions."""
    return bytes(derivation) + bytes([padding]) * (length - len(derivation))
