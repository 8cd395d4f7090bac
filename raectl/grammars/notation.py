"""Read a grammar from a name, a file or a text; errors name the line."""

import re
from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from raectl.errors import RaectlError, UsageError
from raectl.grammars.grammar import PADDING, Grammar, Production, Symbol

_SUFFIX = ".grammar"
_LARGEST = 2**16  # bytes of a file; that of SMILES has 2 KB
_MAX_PRODUCTIONS = 255  # with the padding, an index fits into a byte
_MAX_SYMBOLS = 255  # nonterminals and characters of a right side: bounds strings and the decoder's stack
_TOKEN = re.compile(r"""\s*(?:'([^']*)'|"([^"]*)"|(\|)|([^\s|'"]+))""")
_SHOWN = 40  # characters of a line in a message
_HINT = "a line is LEFT -> RIGHT, text in quotes: S -> S '+' T"


def names() -> tuple[str, ...]:
    """The grammars that come with the package.

    Example:
        >>> names()
        ('expressions', 'smiles')
    """
    paths = (Path(entry.name) for entry in files(__package__).iterdir())
    return tuple(sorted(path.stem for path in paths if path.suffix == _SUFFIX))


def canonical(given: str) -> str:
    """The text of a grammar, a production a line. Arguments and errors are those of `read`."""
    return read(given).text()


def read(given: str) -> Grammar:
    """The grammar with a built-in name, in a file, or of a text (which contains `->`).

    Raises:
        UsageError: there is no such name or file.
        RaectlError: the text is not a grammar.

    Example:
        >>> read("expressions").size
        12
    """
    if "->" in given:
        return from_text(given)
    if given in names():
        return _parsed((files(__package__) / f"{given}{_SUFFIX}").read_text("utf-8"), given)
    path = Path(given)
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
    except (OSError, ValueError) as error:
        hint = f"known: {', '.join(names())}; or a file of productions"
        raise UsageError(f"--grammar {given!r}: {getattr(error, 'strerror', None) or error}", hint) from error
    if len(content) > _LARGEST:
        raise RaectlError(f"{given} is larger than {_LARGEST:,} bytes, too large for a grammar", _HINT)
    try:
        return _parsed(content.decode("utf-8-sig"), given)
    except UnicodeDecodeError as error:
        raise RaectlError(f"{given} is not UTF-8 text", _HINT) from error


def from_text(text: str) -> Grammar:
    """The grammar of a text, which is never taken for a name or a file.

    Raises:
        RaectlError: the text is not a grammar.
    """
    return _parsed(text, "the grammar")


@lru_cache(maxsize=16)  # by what is in a file, not by its name
def _parsed(text: str, where: str) -> Grammar:
    if len(text) > _LARGEST:
        raise RaectlError(f"{where} is larger than {_LARGEST:,} characters, too large for a grammar", _HINT)
    productions: list[Production] = []
    unused: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        content = line.strip()
        if content and not content.startswith("#"):
            left, arrow, right = (part.strip() for part in content.partition("->"))
            if not re.fullmatch(r"[^\s|'\"]+", left) or "\0" in content:
                lacks = "left side" if arrow else "->"
                raise RaectlError(f"{where}, line {number}: {_cut(line)} has no {lacks}", _HINT)
            if not arrow:
                unused.append(left)
            elif (left, right) != (PADDING, "None"):
                alternatives = _alternatives(right, f"{where}, line {number}")
                productions += (Production(left, symbols) for symbols in alternatives)
    grammar = Grammar(tuple(productions), tuple(dict.fromkeys(unused)))
    _check(grammar, where)
    return grammar


def _cut(text: str) -> str:
    """A text for a message, quoted and shortened."""
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


def _alternatives(right: str, where: str) -> Iterator[tuple[Symbol, ...]]:
    symbols: list[Symbol] = []
    at = 0
    while at < len(right):
        token = _TOKEN.match(right, at)
        if token is None:
            raise RaectlError(f"{where}: {_cut(right[at:])} cannot be read", "is a quote not closed?")
        single, double, bar, word = token.groups()
        if bar:
            yield tuple(symbols)
            symbols = []
        elif word:
            symbols.append(Symbol(word))
        elif single or double:
            symbols.append(Symbol(single or double, is_text=True))
        at = token.end()
    yield tuple(symbols)


def _check(grammar: Grammar, where: str) -> None:
    """Raise a `RaectlError` if the grammar is incomplete, too large, or derives no strings."""
    if not grammar.productions:
        raise RaectlError(f"{where} has no productions", _HINT)
    if (count := len(grammar.productions)) > _MAX_PRODUCTIONS:
        raise RaectlError(f"{where} has {count} productions, more than {_MAX_PRODUCTIONS}", "merge some of them")
    if any(sum(len(s.text) if s.is_text else 1 for s in p.right) > _MAX_SYMBOLS for p in grammar.productions):
        raise RaectlError(f"{where} has a production of more than {_MAX_SYMBOLS} symbols", "split it")
    lefts = {production.left for production in grammar.productions}
    used = {s.text for p in grammar.productions for s in p.right if not s.is_text}
    if PADDING in lefts | used:
        raise RaectlError(f"{where} uses {PADDING}, the left side of the padding", "give it another name")
    if unknown := used - lefts - set(grammar.unused):
        hint = "text is quoted; a left side without productions is declared on a line of its own"
        raise RaectlError(f"{where} has no productions for {_cut(sorted(unknown)[0])}", hint)
    if both := lefts & set(grammar.unused):
        raise RaectlError(f"{where} declares {_cut(sorted(both)[0])} to have no productions, but it has", _HINT)
    start = grammar.productions[0].left
    if start not in grammar.finite:
        hint = "one of its productions must lead to text only"
        raise RaectlError(f"{where}: no string can be derived from {_cut(start)}", hint)
