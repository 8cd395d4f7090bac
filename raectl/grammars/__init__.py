"""Context-free grammars: a file of productions, strings from derivations, and a parser from strings to derivations.

    # lines that start with '#' are comments
    S -> S '+' T
    S -> T
    T -> 'x' | "1"

One production a line, or several separated by `|`. Quoted text is terminal (there are no escapes), a bare word is a
nonterminal; the first left side is the start symbol. Productions are indexed in the order of the file; after the last
comes the padding, `Nothing -> None`, written or not. A bare word alone on a line declares a nonterminal without
productions: those that use it are never applied.
"""

from raectl.grammars.grammar import Grammar, Production, Symbol
from raectl.grammars.notation import canonical, from_text, names, read

__all__ = ["Grammar", "Production", "Symbol", "canonical", "from_text", "names", "read"]
