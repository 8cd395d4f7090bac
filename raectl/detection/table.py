"""A table with a row an item, written as it grows: CSV, JSON lines, Parquet."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from raectl.errors import RaectlError, UsageError
from raectl.storage.atomic import atomic_file, require_parent

STDOUT = Path("-")  # CSV on standard output
_GROUP = 2**16  # rows of a Parquet file in memory at a time


class Row(NamedTuple):
    """An item's row; None where there is nothing to say."""

    path: str | int
    class_: str | None
    error: float | None
    log_density: float | None
    score: float | None
    percentile: float | None
    odd: bool | None
    reason: str | None


COLUMNS = tuple(name.rstrip("_") for name in Row._fields)
Writer = Callable[[Path, Iterable[Row]], None]


def write_table(out: Path, rows: Iterable[Row]) -> None:
    """Write rows to a file, by its suffix, whole or not at all; or, for `-`, to standard output.

    Raises:
        UsageError, RaectlError: as `check_table`, or the disk refuses.
    """
    if out == STDOUT:
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")
        try:
            _write_csv(sys.stdout, rows)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise RaectlError(f"cannot write to standard output: {error.strerror or error}") from error
        return
    writer = check_table(out)
    with atomic_file(out) as temporary:
        writer(temporary, rows)


def check_table(out: Path) -> Writer:
    """What writes a file of this suffix.

    Raises:
        UsageError: there is no such kind of table.
        RaectlError: the directory is missing, `out` is one, or a package is not installed.
    """
    writer = _WRITERS.get(out.suffix.lower())
    if writer is None:
        raise UsageError(f"-o {str(out)!r} is no table", f"one of {', '.join(_WRITERS)}, or - for CSV on stdout")
    require_parent(out)
    if out.is_dir():
        raise RaectlError(f"{out} is a directory, not a {out.suffix} file", "choose another name")
    if writer is _parquet:
        _pyarrow()
    return writer


def _csv(path: Path, rows: Iterable[Row]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        _write_csv(file, rows)


def _write_csv(file: TextIO, rows: Iterable[Row]) -> None:
    file.write(",".join(COLUMNS) + "\n")
    for row in rows:
        file.write(",".join(map(_cell, row)) + "\n")


def _cell(value: object) -> str:
    """As in RFC 4180; Python's `csv` does not quote a carriage return where lines end with a newline alone."""
    if value is None or isinstance(value, bool):
        return "" if value is None else str(value).lower()
    text = str(_short(value))
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\r\n') else text


def _jsonl(path: Path, rows: Iterable[Row]) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            line = dict(zip(COLUMNS, map(_short, row), strict=True))
            file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")


def _short(value: Any) -> Any:
    """A number with seven digits, which is as exact as single precision; anything else as it is.

    A name that is no Unicode text has its odd bytes escaped.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _parquet(path: Path, rows: Iterable[Row]) -> None:
    arrow, parquet = _pyarrow()
    kinds = (arrow.string(), arrow.string(), *(arrow.float64(),) * 4, arrow.bool_(), arrow.string())
    schema = arrow.schema([*zip(COLUMNS, kinds, strict=True)])
    with parquet.ParquetWriter(path, schema) as writer:
        for group in _groups(rows):
            columns = zip(*([str(_short(row.path)), *map(_short, row[1:])] for row in group), strict=True)
            arrays = [arrow.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))


def _groups(rows: Iterable[Row]) -> Iterator[Sequence[Row]]:
    iterator = iter(rows)
    while group := list(islice(iterator, _GROUP)):
        yield group


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise RaectlError(".parquet needs pyarrow, which is not installed", "pip install 'raectl[parquet]'") from error
    return pyarrow, pyarrow.parquet


_WRITERS: dict[str, Writer] = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
