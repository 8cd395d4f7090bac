"""A context-free grammar: productions by their index, and the strings that sequences of them derive."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

PADDING = "Nothing"  # left side of the last production, which stands after a derivation's end


class Symbol(NamedTuple):
    """A left side, or text that stands for itself."""

    text: str
    is_text: bool = False


class Production(NamedTuple):
    """left -> right."""

    left: str
    right: tuple[Symbol, ...]


@dataclass(frozen=True)
class Grammar:
    """Productions 0 .. D - 2 and the padding, D - 1.

    A derivation is a string's leftmost one: the indices of the productions that replace, one after the other, the
    first left side, beginning with the start.

    Arguments:
        productions: those of the grammar, without the padding.
        unused: left sides that are declared to have no productions.

    Example:
        >>> from raectl import grammars
        >>> grammar = grammars.read("S -> S '+' T | T\\nT -> 'x'")
        >>> grammar.string(bytes([0, 1, 2, 2]))
        'x+x'
    """

    productions: tuple[Production, ...]
    unused: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """D, the number of rules with the padding."""
        return len(self.productions) + 1

    @property
    def padding(self) -> int:
        return len(self.productions)

    @cached_property
    def lefts(self) -> tuple[str, ...]:
        """The L left sides in the order of their first production, the padding's last."""
        return (*dict.fromkeys(production.left for production in self.productions), PADDING)

    @cached_property
    def left(self) -> tuple[int, ...]:
        """Index of each rule's left side, (D,)."""
        return (*(self.lefts.index(production.left) for production in self.productions), len(self.lefts) - 1)

    @cached_property
    def pushed(self) -> tuple[tuple[int, ...], ...]:
        """Indices of the left sides on each rule's right, in their order; none for a rule that is never applied."""
        return (
            *(
                tuple(self.lefts.index(s.text) for s in p.right if not s.is_text) if self.is_applied(p) else ()
                for p in self.productions
            ),
            (),
        )

    @cached_property
    def finite(self) -> frozenset[str]:
        """Left sides from which a string can be derived."""
        found: set[str] = set()
        while True:
            more = {p.left for p in self.productions if all(s.is_text or s.text in found for s in p.right)}
            if more <= found:
                return frozenset(found)
            found |= more

    def is_applied(self, production: Production) -> bool:
        """Whether a production can be part of a derivation that ends."""
        return all(symbol.is_text or symbol.text in self.finite for symbol in production.right)

    @cached_property
    def mask(self) -> tuple[tuple[bool, ...], ...]:
        """Which rules may replace which left side, (L, D)."""
        applied = [*map(self.is_applied, self.productions), True]
        return tuple(
            tuple(own == left and ok for own, ok in zip(self.left, applied, strict=True))
            for left in range(len(self.lefts))
        )

    @cached_property
    def alphabet(self) -> frozenset[str]:
        """The characters of all strings."""
        return frozenset(c for p in self.productions for s in p.right if s.is_text for c in s.text)

    def string(self, rules: Iterable[int]) -> str | None:
        """What a sequence of rules derives, or None if it is no derivation, or one that does not end."""
        parts: list[str] = []
        productions, padding = self.productions, self.padding
        waiting = [Symbol(productions[0].left)]
        for rule in rules:
            while waiting and waiting[-1].is_text:
                parts.append(waiting.pop().text)
            if rule == padding and not waiting:
                continue
            if rule >= padding or not waiting or productions[rule].left != waiting.pop().text:
                return None
            waiting.extend(reversed(productions[rule].right))
        while waiting and waiting[-1].is_text:
            parts.append(waiting.pop().text)
        return None if waiting else "".join(parts)

    def text(self) -> str:
        """The grammar as its file has it, a production a line, without comments."""
        lines = [*self.unused, *(f"{p.left} -> {' '.join(map(_quoted, p.right))}".rstrip() for p in self.productions)]
        return "".join(f"{line}\n" for line in lines)


def _quoted(symbol: Symbol) -> str:
    quote = '"' if "'" in symbol.text else "'"
    return f"{quote}{symbol.text}{quote}" if symbol.is_text else symbol.text


def padded(rules: Sequence[int], length: int, padding: int) -> bytes:
    """A derivation with padding after it, `length` rules in all."""
    return bytes(rules) + bytes([padding]) * (length - len(rules))
