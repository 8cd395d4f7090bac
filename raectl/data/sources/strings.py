"""Lines of text => their leftmost derivations by a grammar, padded to one length, (N, T) uint8."""

import contextlib
import tempfile
from array import array
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import IO

import numpy as np

from raectl import grammars
from raectl.data import limits
from raectl.data.dataset import Dataset
from raectl.data.options import DataOptions
from raectl.data.packing import PackingTask, packed
from raectl.data.pieces import Block
from raectl.errors import RaectlError, UsageError
from raectl.grammars.grammar import Grammar, padded
from raectl.grammars.parser import LONGEST, ParseError, parser_of
from raectl.progress import Progress

_BLOCK = 4096  # derivations padded at a time
_CHECK_EVERY = 1000  # lines between two progress updates; bad lines between two checks that they are not too many
_WHAT = "lines"
_BLANK = 100_000  # blank lines whose numbers are kept
_SHOWN = 24  # characters of a bad line in a message
_SPOOLED = 2**24  # bytes of derivations in memory; more go to a temporary file

Line = tuple[str, str | None]  # a string, and why it is bad, or None


@dataclass(frozen=True)
class Lines:
    """Strings, before they are parsed."""

    source: str  # as `open_dataset` accepts it
    state: str  # a digest that changes when the strings do, without reading them
    content: Callable[[], str]  # computes the digest of their bytes
    # For each file its class, empty for a file that is no class, and what iterates over its lines; a line that does not
    # count is None.
    files: Mapping[str, Callable[[], Iterator[Line | None]]]
    grammar: str | None = None  # name of the default grammar; None if the user must name one

    def numbered(self) -> Iterator[tuple[int, str, int, Line | None]]:
        """All lines: the number of each, from 1, the class of its file, its number there, and the line."""
        number = 0
        for name, read in self.files.items():
            for own, line in enumerate(read(), 1):
                number += 1
                yield number, name, own, line


def open_strings(lines: Lines, options: DataOptions, progress: Progress) -> Dataset:
    """A dataset of the derivations of all lines, (N, T) uint8.

    T is `options.max_productions`, or one more than the longest derivation has productions.

    Raises:
        UsageError: no grammar is given, or it is unknown.
        RaectlError: there are no lines, or too many without a derivation of at most T productions.
    """
    given = options.grammar or lines.grammar
    if given is None:
        hint = f"--grammar {', '.join(grammars.names())}, or a file of productions"
        raise UsageError(f"{limits.shown(lines.source)} holds strings; of which grammar?", hint)
    tolerance = DataOptions(max_bad=options.max_bad, strict=options.strict)
    known = replace(tolerance, grammar=grammars.canonical(given), max_productions=options.max_productions)
    with _spool() as spool:
        result = packed(lines.state, known, lambda: _prepare(lines, known, progress, spool), progress)
    dataset = result.dataset("strings", lines.source, options, _WHAT)
    dataset = replace(dataset, sizes="productions of the grammar, padding included")
    labels = None if "" in lines.files else _labels(dataset)
    return dataset if labels is None else replace(dataset, labels=labels, classes=tuple(lines.files))


def _labels(dataset: Dataset) -> np.ndarray | None:
    """The class of each good line, (N,): the file that it is in; None if more lines are blank than were counted."""
    counts, blank = dataset.found["files"], np.array(dataset.found.get("blank_lines", ()), np.int64)
    bad = np.array([int(name.split()[1]) for name, _ in dataset.skipped], np.int64)  # "line 12 ..."
    if len(blank) == _BLANK:
        return None
    return np.delete(np.repeat(np.arange(len(counts)), counts), bad - 1 - np.searchsorted(blank, bad))


@contextlib.contextmanager
def _spool() -> Iterator[IO[bytes]]:
    """A temporary file, in memory as long as it is small."""
    spool = tempfile.SpooledTemporaryFile(_SPOOLED)  # noqa: SIM115
    try:
        yield spool
    finally:
        with contextlib.suppress(OSError):  # closing flushes, which a full disk refuses again
            spool.close()


def _prepare(lines: Lines, options: DataOptions, progress: Progress, spool: IO[bytes]) -> PackingTask:
    assert options.grammar is not None
    grammar = grammars.read(options.grammar)
    blank, counts = array("Q"), dict.fromkeys(lines.files, 0)
    for number, name, _, line in lines.numbered():
        counts[name] += line is not None
        if line is None:
            blank.append(number)
    total = sum(counts.values())
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
    found = {"blank_lines": blank[:_BLANK].tolist()} if blank else {}
    found |= {} if "" in counts else {"files": [*counts.values()]}
    content = lines.content()
    return PackingTask(lines.source, content, resolved, (length,), total, blocks, tuple(bad), found=found, what=_WHAT)


def _parse(
    lines: Lines, grammar: Grammar, total: int, options: DataOptions, progress: Progress, spool: IO[bytes]
) -> tuple[Sequence[int], list[limits.Bad]]:
    """Write all derivations to `spool`; returns 0 and the offset at which each ends, and the bad lines."""
    parser = parser_of(grammar)
    longest = options.max_productions or LONGEST
    ends = array("Q", [0])
    bad: list[limits.Bad] = []
    for number, name, own, line in lines.numbered():
        if line is None:
            continue
        text, problem = line
        if (seen := len(ends) + len(bad)) % _CHECK_EVERY == 0:
            progress.update("parsing", seen, total)
        try:
            if problem:
                raise ParseError(problem)
            derivation = parser.derivation(text)
            if len(derivation) > longest:
                raise ParseError(f"its {len(derivation)} productions are more than {longest}")
            with _describing_os_errors(lines):
                spool.write(derivation)
            ends.append(ends[-1] + len(derivation))
        except ParseError as error:
            where = f"line {number} ({own} of {name})" if name else f"line {number}"
            bad.append((where, f"{_cut(text)}: {error}" if text else problem or "empty"))
            if len(bad) % _CHECK_EVERY == 0:  # fails early if too many are bad
                limits.tolerate(bad, total, lines.source, options, _WHAT, so_far=True)
    with _describing_os_errors(lines):
        spool.flush()
    return ends, bad


@contextlib.contextmanager
def _describing_os_errors(lines: Lines) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"no room for the derivations of {limits.shown(lines.source)}: {error.strerror or error}"
        raise RaectlError(message, "free some space in the temporary directory, or set TMPDIR") from error


def _cut(line: str) -> str:
    return limits.shown(line if len(line) <= _SHOWN else line[:_SHOWN] + "...")
