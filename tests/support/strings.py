"""A few expressions, as lines and as derivations."""

from pathlib import Path

import numpy as np

from raectl import grammars
from raectl.grammars.grammar import padded
from raectl.grammars.parser import parser_of

GRAMMAR = grammars.read("expressions")


def lines(n: int) -> list[str]:
    """n different sums of two leaves, each in one of four brackets: 6 to 8 rules."""
    brackets = [("", ""), ("(", ")"), ("sin(", ")"), ("exp(", ")")]
    parts = [f"{opened}{leaf}{closed}" for leaf in "x123" for opened, closed in brackets]
    found = [f"{a}{operator}{b}" for operator in "+*/" for a in parts for b in parts]
    return [found[index] for index in np.random.default_rng(0).permutation(len(found))[:n]]


def derivations(n: int, length: int = 15) -> np.ndarray:
    """Those lines as items, (n, length) uint8."""
    parsed = [parser_of(GRAMMAR).derivation(line) for line in lines(n)]
    return np.array([[*padded(rules, length, GRAMMAR.padding)] for rules in parsed], np.uint8)


def write_lines(path: Path, n: int) -> Path:
    """A text file of those lines."""
    path.write_text("".join(f"{line}\n" for line in lines(n)))
    return path
