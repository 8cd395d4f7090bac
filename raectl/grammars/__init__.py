"""Context-free grammars as data: a file of productions, the strings they derive, and the way back.

    # lines that start with '#' are comments
    S -> S '+' T
    S -> T
    T -> 'x' | "1"

One production a line, or several with `|` between them. What stands in quotes is text, letter by letter (there are no
escapes); a bare word is a left side. The first left side is the start. A production's place in the file is its index;
after the last comes the padding, `Nothing -> None`, written or not. A bare word alone on a line declares a left side
without productions: those that use it are never applied.
"""

from raectl.grammars.grammar import Grammar, Production, Symbol
from raectl.grammars.notation import canonical, from_text, names, read

__all__ = ["Grammar", "Production", "Symbol", "canonical", "from_text", "names", "read"]
