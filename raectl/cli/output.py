"""What commands print: data to stdout, talk to stderr, and with `--json` one object on stdout and nothing else."""

import json
import sys
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

_LONGEST = 4000  # characters of an error's line: two paths; a file may claim to have a name of a million
_SIGNS = {"↓": "v", "↑": "^", "→": "->", "±": "+-", "\N{EN DASH}": "-", "…": "..."}  # where there are no others
show_tracebacks = False  # set by --debug
_talk = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


def plain(text: object) -> str:
    """The text with control characters, which a file's name may hold, escaped as in Python."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in str(text))


def _encodable(text: object) -> str:
    """Plain text in characters that stdout has: a pipe may be in cp1252 or ASCII, which have no arrows."""
    encoding = sys.stdout.encoding or "utf-8"
    shown = "".join(c if c.isascii() or _has(encoding, c) else _SIGNS.get(c, c) for c in plain(text))
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def _has(encoding: str, character: str) -> bool:
    try:
        return bool(character.encode(encoding))
    except UnicodeEncodeError:
        return False


def say(text: str, style: str | None = None) -> None:
    """A line of talk, on stderr."""
    _talk.print(plain(text), style=style)


def complain(message: str, hint: str | None, kind: str = "error: ") -> None:
    """An error, or another end before the work was done: what happened, and what to do next, each on one line."""
    _talk.print(kind + _one_line(message), style="red" if kind else None)
    if hint:
        _talk.print("hint: " + _one_line(hint))


def _one_line(text: str) -> str:
    text = plain(" ".join(text.split("\n")))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def emit(values: Mapping[str, Any], rows: Mapping[str, object] | None = None, *, as_json: bool) -> None:
    """A command's result on stdout: `values` as a JSON object, or `rows` as two columns for a person."""
    if as_json:
        print(json.dumps(values, allow_nan=False, default=str))
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in (rows or {}).items():
        table.add_row(_cell(name), _cell(value))
    _stdout().print(table)


def emit_table(title: str, columns: list[str], rows: list[list[object]], *, gap: int = 2) -> None:
    """A table for a person, on stdout, with so many blanks between columns.

    Nothing is cut off: where the terminal is too narrow, the columns stand in several tables, the first one in each, of
    which folded headers may save some. Only a cell that does not fit beside the first is folded.
    """
    console = _stdout()
    title, *columns = map(_encodable, (title, *columns))
    cells = [[_encodable(value) for value in column] for column in zip(*rows, strict=True)] or [[] for _ in columns]
    folded = [_folded(header, column) for header, column in zip(columns, cells, strict=True)]
    ways = [(headers, _tables(_widths(headers, cells), console.width, gap)) for headers in (columns, folded)]
    headers, tables = min(ways, key=lambda way: len(way[1]))
    if title:
        console.print(_cell(title), style="table.title")  # as wide as there is room for, not as the table is
    for number, chosen in enumerate(tables):
        if number:
            console.print()
        table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0))
        for index in chosen:
            table.add_column(_cell(headers[index]), overflow="fold")
        for row in zip(*(cells[index] for index in chosen), strict=True):
            table.add_row(*map(_cell, row))
        console.print(table)


def _widths(headers: Sequence[str], cells: Sequence[Sequence[str]]) -> list[int]:
    """Of each column, with its header."""
    columns = ["\n".join((header, *column)) for header, column in zip(headers, cells, strict=True)]
    return [max(map(cell_len, column.split("\n"))) for column in columns]


def _folded(header: str, cells: Sequence[str]) -> str:
    """A header in lines of whole words, no wider than its column must be."""
    return "\n".join(wrap(header, max((1, *map(cell_len, (*header.split(), *cells)))), break_on_hyphens=False))


def _tables(widths: Sequence[int], room: int, gap: int) -> list[list[int]]:
    """Which columns stand in one table: as many as there is room for.

    Example:
        >>> _tables([10, 20, 30, 20], room=60, gap=2)
        [[0, 1], [0, 2], [0, 3]]
    """
    tables: list[list[int]] = []
    left = -1
    for index, width in enumerate(widths[1:], 1):
        if left < gap + width:
            tables.append([0])
            left = room - min(widths[0], room // 2)
        tables[-1].append(index)
        left -= gap + width
    return tables or [[0]]


def _cell(value: object) -> Text:
    return Text(_encodable(value))


def _stdout() -> Console:
    # A pipe has no width: nothing is folded that another program reads.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 2**20)


def size(count: int) -> str:
    """So many bytes.

    Example:
        >>> size(160), size(15_000), size(2_500_000_000)
        ('160 bytes', '15.0 KB', '2.5 GB')
    """
    for unit, power in (("GB", 9), ("MB", 6), ("KB", 3)):
        if count >= 10**power:
            return f"{count / 10**power:,.1f} {unit}"
    return f"{count} bytes"


def number(value: float | None, digits: int = 4) -> str:
    """A figure for people; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def figure(measured: Any) -> str:
    """A measured value for people, with its standard error where it has one; a dash where there is none."""
    if measured is None:
        return "-"
    return f"{measured.value:.4g}" + ("" if measured.se is None else f" ± {measured.se:.1g}")
