"""Strings that come as lines: each becomes its leftmost derivation, padded to one length, and is kept in the cache."""

import contextlib
import tempfile
from array import array
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import IO

import numpy as np

from raectl import grammars
from raectl.data import limits
from raectl.data.dataset import Dataset
from raectl.data.journal import Block
from raectl.data.options import DataOptions
from raectl.data.packing import PackingTask, packed
from raectl.errors import RaectlError, UsageError
from raectl.grammars.grammar import Grammar, padded
from raectl.grammars.parser import LONGEST, ParseError, parser_of
from raectl.progress import Progress

_BLOCK = 4096  # derivations padded at a time
_OFTEN = 1000  # lines between two words of progress, and bad ones between two looks at whether they are too many
_WHAT = "lines"
_SHOWN = 24  # characters of a bad line
_HELD = 2**24  # bytes of derivations that are held in memory; more go to a temporary file


@dataclass(frozen=True)
class Lines:
    """Strings, before they are parsed.

    Arguments:
        source: as `open_dataset` takes it.
        state: a digest that changes whenever they do, told cheaply.
        content: gives the digest of their bytes.
        read: gives them from the start, each with what is wrong with it, or None; None for a line that does not count.
        grammar: name of the grammar where the user gave none; None if one must be given.
    """

    source: str
    state: str
    content: Callable[[], str]
    read: Callable[[], Iterator[tuple[str, str | None] | None]]
    grammar: str | None = None


def open_strings(lines: Lines, options: DataOptions, progress: Progress) -> Dataset:
    """The derivations of all lines, (N, T) uint8; T is one more than the longest needs, or `options.max_productions`.

    Raises:
        UsageError: no grammar is given, or there is none of that name.
        RaectlError: there are no lines, or too many that the grammar does not derive in T rules.
    """
    given = options.grammar or lines.grammar
    if given is None:
        hint = f"--grammar {', '.join(grammars.names())}, or a file of productions"
        raise UsageError(f"{limits.shown(lines.source)} holds strings; of which grammar?", hint)
    asked = DataOptions(
        grammar=grammars.canonical(given),
        max_productions=options.max_productions,
        max_bad=options.max_bad,
        strict=options.strict,
    )
    with _spool() as spool:
        result = packed(lines.state, asked, lambda: _prepare(lines, asked, progress, spool))
    return Dataset(
        items=result.items,
        modality="strings",
        what=_WHAT,
        sizes="rules of the grammar, padding included",
        source=lines.source,
        options=result.options,
        notes=result.notes + limits.tolerate(result.skipped, result.total, lines.source, options, _WHAT),
        skipped=result.skipped,
        known_fingerprint=result.known_fingerprint,
    )


@contextlib.contextmanager
def _spool() -> Iterator[IO[bytes]]:
    """A file in memory until it is large."""
    spool = tempfile.SpooledTemporaryFile(_HELD)  # noqa: SIM115
    try:
        yield spool
    finally:
        with contextlib.suppress(OSError):  # of a full disk, which refuses once more what it was told of
            spool.close()


def _prepare(lines: Lines, options: DataOptions, progress: Progress, spool: IO[bytes]) -> PackingTask:
    assert options.grammar is not None
    grammar = grammars.read(options.grammar)
    total = sum(line is not None for line in lines.read())
    if total == 0:
        raise RaectlError(f"{limits.shown(lines.source)} is empty", "one string a line is needed")
    ends, bad = _parse(lines, grammar, total, options, progress, spool)
    longest = max((end - start for start, end in pairwise(ends)), default=0)
    length = options.max_productions or min(LONGEST, 1 + longest)

    def blocks(first: int) -> Generator[Block, None, None]:
        spool.seek(ends[first])
        for at in range(first, len(ends) - 1, _BLOCK):
            parts = (spool.read(end - start) for start, end in pairwise(ends[at : at + _BLOCK + 1]))
            rows = b"".join(padded(part, length, grammar.padding) for part in parts)
            yield Block(np.frombuffer(rows, np.uint8).reshape(-1, length))

    resolved = replace(options, max_productions=length)
    return PackingTask(lines.source, lines.content(), resolved, (length,), total, blocks, tuple(bad), what=_WHAT)


def _parse(
    lines: Lines, grammar: Grammar, total: int, options: DataOptions, progress: Progress, spool: IO[bytes]
) -> tuple[Sequence[int], list[limits.Bad]]:
    """Write all derivations behind each other; 0 and where each ends, and the lines that have none."""
    parser = parser_of(grammar)
    most = options.max_productions or LONGEST
    ends = array("Q", [0])
    bad: list[limits.Bad] = []
    for number, found in enumerate(lines.read(), 1):
        if found is None:
            continue
        line, trouble = found
        if (seen := len(ends) + len(bad)) % _OFTEN == 0:
            progress.update("parsing", seen, total)
        try:
            if trouble:
                raise ParseError(trouble)
            derivation = parser.derivation(line)
            if len(derivation) > most:
                raise ParseError(f"its {len(derivation)} rules are more than {most}")
            with _describing(lines):
                spool.write(derivation)
            ends.append(ends[-1] + len(derivation))
        except ParseError as error:
            bad.append((f"line {number}", f"{_cut(line)}: {error}" if line else trouble or "empty"))
            if len(bad) % _OFTEN == 0:  # nothing is gained by reading on
                limits.tolerate(bad, total, lines.source, options, _WHAT, so_far=True)
    with _describing(lines):
        spool.flush()
    return ends, bad


@contextlib.contextmanager
def _describing(lines: Lines) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"no room for the derivations of {limits.shown(lines.source)}: {error.strerror or error}"
        raise RaectlError(message, "free some space in the temporary directory, or set TMPDIR") from error


def _cut(line: str) -> str:
    return limits.shown(line if len(line) <= _SHOWN else line[:_SHOWN] + "...")
