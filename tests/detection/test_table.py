"""Tables in their three forms."""

import csv
import json
from pathlib import Path

import pyarrow.parquet
import pytest

from raectl.detection.table import COLUMNS, Row, write_table
from raectl.errors import RaectlError, UsageError

ROWS = [
    Row("a/1.png", "a", 0.123456789, -12.5, 0.1, 33.0, False, None),
    Row('b/"2",3.png', "b", 1e-12, -1e300, 9.0, 100.0, True, "trained on"),
    Row("b/bad.png", None, None, None, None, None, None, "an empty file"),
]


def test_csv(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", iter(ROWS))
    first, *rows = csv.reader((tmp_path / "t.csv").read_text().splitlines())
    assert tuple(first) == COLUMNS == ("path", "class", "error", "log_density", "score", "percentile", "odd", "reason")
    assert rows[0] == ["a/1.png", "a", "0.1234568", "-12.5", "0.1", "33.0", "false", ""]
    assert rows[1][0] == 'b/"2",3.png' and rows[1][6:] == ["true", "trained on"]
    assert rows[2] == ["b/bad.png", "", "", "", "", "", "", "an empty file"]


def test_json_lines(tmp_path: Path) -> None:
    write_table(tmp_path / "t.jsonl", iter(ROWS))
    lines = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert lines[0]["error"] == 0.1234568 and lines[0]["odd"] is False
    assert lines[2] == {**dict.fromkeys(COLUMNS), "path": "b/bad.png", "reason": "an empty file"}


def test_parquet(tmp_path: Path) -> None:
    write_table(tmp_path / "t.parquet", iter(ROWS))
    table = pyarrow.parquet.read_table(tmp_path / "t.parquet").to_pydict()
    assert tuple(table) == COLUMNS
    assert table["odd"] == [False, True, None] and table["log_density"] == [-12.5, -1e300, None]


def test_numbers_are_paths_too(tmp_path: Path) -> None:
    row = Row(7, None, 0.5, -1.0, 0.0, 50.0, False, None)
    for suffix in (".csv", ".jsonl", ".parquet"):
        write_table(tmp_path / f"t{suffix}", [row])
    assert (tmp_path / "t.csv").read_text().splitlines()[1].startswith("7,,0.5")
    assert pyarrow.parquet.read_table(tmp_path / "t.parquet").to_pydict()["path"] == ["7"]


@pytest.mark.parametrize("name", ["a\rb", "a\nb", "a,b", '"', "\u00e4", " a", "\udcff"])
def test_any_name_is_one_cell(tmp_path: Path, name: str) -> None:
    write_table(tmp_path / "t.csv", [ROWS[0]._replace(path=name), ROWS[1]])
    with open(tmp_path / "t.csv", newline="", encoding="utf-8") as file:
        first, row, _ = csv.reader(file)
    assert row[0] == name.encode("utf-8", "backslashreplace").decode() and len(row) == len(first) == 8


def test_an_error_leaves_the_former_table(tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    out.write_text("former")

    def rows():
        yield ROWS[0]
        raise RaectlError("in the middle")

    with pytest.raises(RaectlError, match="in the middle"):
        write_table(out, rows())
    assert out.read_text() == "former" and [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no table"):
        write_table(tmp_path / "t.xlsx", ROWS)
    with pytest.raises(RaectlError, match="does not exist"):
        write_table(tmp_path / "no" / "t.csv", ROWS)
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(RaectlError, match="is a directory"):
        write_table(tmp_path / "d.csv", ROWS)
