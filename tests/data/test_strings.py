"""Strings as data: the expressions of the Grammar VAE, text files however odd, the molecules of a package."""

import errno
import functools
import gzip
import io
import itertools
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from support.progress import Calls

from raectl import grammars
from raectl.data import DataOptions, open_dataset
from raectl.data.sources import builtin, text
from raectl.data.sources.builtin import expressions
from raectl.errors import RaectlError, UsageError
from raectl.grammars.parser import LONGEST

GRAMMAR = grammars.read("expressions")
OPTIONS = DataOptions(grammar="expressions")


@pytest.fixture
def write(tmp_path):
    """Writes bytes to a `.txt` and gives its name."""

    def put(content: bytes) -> str:
        path = tmp_path / "lines.txt"
        path.write_bytes(content)
        return str(path)

    return put


def strings(dataset):
    return [GRAMMAR.string(row) for row in dataset.items]


# -- expressions ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset():
    return open_dataset("expressions")


def test_the_expressions_are_those_of_the_grammar_vae(dataset):
    lines = list(expressions())
    assert len(set(lines)) == len(lines) == len(dataset) == 100_000
    assert sum("x" in line for line in lines) == 88_660
    assert lines[:2] + lines[-1:] == ["x+x+(x)+(x+x)", "x+x+(x)+(x+1)", "1/3+(x)+3"]
    lengths = (dataset.items != GRAMMAR.padding).sum(axis=1)
    assert Counter(lengths.tolist()) == {8: 624, 10: 3_748, 12: 28_092, 14: 67_536}
    assert dataset.items.shape == (100_000, 15) and dataset.items.dtype == np.uint8
    assert dataset.modality == "strings" and dataset.source == "expressions" and not dataset.notes
    assert dataset.options == DataOptions(grammar=GRAMMAR.text(), max_productions=15)


def test_every_expression_comes_back(dataset):
    assert strings(dataset) == list(expressions())


def test_opened_again_with_what_was_resolved_they_are_the_same(dataset):
    again = open_dataset("expressions", dataset.options)
    assert again.fingerprint == dataset.fingerprint and again.options == dataset.options


# -- text files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_on_any_system(write, end):
    path = write(end.join(["x", "1+x", "x+\u00a0", "sin(x)"]).encode())
    dataset = open_dataset(path, OPTIONS)
    assert strings(dataset) == ["x", "1+x", "sin(x)"]
    assert "line 3" in dataset.notes[0]


def test_lines_of_a_file(write):
    path = write("\ufeffx\r\n1+x\nsin(x*x)".encode())
    dataset = open_dataset(path, OPTIONS)
    assert strings(dataset) == ["x", "1+x", "sin(x*x)"] and dataset.notes == ()
    assert dataset.items.shape == (3, 7)  # sin(x*x) needs 6 rules
    assert dataset.options == DataOptions(grammar=GRAMMAR.text(), max_productions=7)
    assert open_dataset(path, dataset.options).fingerprint == dataset.fingerprint
    wide = open_dataset(path, DataOptions(grammar="expressions", max_productions=20))
    assert wide.items.shape == (3, 20) and strings(wide) == strings(dataset)


def test_a_grammar_of_ones_own(write, tmp_path):
    (tmp_path / "my.grammar").write_text("S -> 'a' S | \n")
    dataset = open_dataset(write(b"aa\n\na\n"), DataOptions(grammar=str(tmp_path / "my.grammar")))
    assert dataset.items.tolist() == [[0, 0, 1, 2], [1, 2, 2, 2], [0, 1, 2, 2]]
    assert dataset.options.grammar == "S -> 'a' S\nS ->\n"


def test_a_grammar_that_changed_is_another(write, tmp_path):
    path, grammar = write(b"a\n"), tmp_path / "my.grammar"
    grammar.write_text("S -> 'a'")
    first = open_dataset(path, DataOptions(grammar=str(grammar)))
    assert first.items.tolist() == [[0, 1]]
    second = open_dataset(path, DataOptions(grammar="S -> T\nT -> 'a'"))
    assert second.items.tolist() == [[0, 1, 2]]


def test_strings_without_a_grammar(write):
    with pytest.raises(UsageError) as error:
        open_dataset(write(b"x\n"))
    assert "of which grammar" in error.value.message and "--grammar expressions" in error.value.hint


BAD = {
    b"": "empty",
    b"y": "no 'y', character 1",
    b"x+": "fails at character 2, '+'",
    b"x x": "no ' '",
    b"\xff": "not UTF-8 text",
    b"x\0": "no '\\x00'",
    b"\x1b[31m": "no '\\x1b'",
    b"x" * (LONGEST + 1): "longer than 4,096 characters",
    b"(" * 20_000_000: "longer than 4,096 characters",
    b"(" * 4000: "fails at character 4000, '('",
}


@pytest.mark.parametrize("line", BAD, ids=lambda line: f"{line[:4]!r}-{len(line)}")
def test_a_line_that_is_not_derived_is_skipped_counted_and_named(line, write):
    dataset = open_dataset(write(b"x\n" + line + b"\n1\n"), OPTIONS)
    assert strings(dataset) == ["x", "1"] and len(dataset.skipped) == 1
    (note,) = dataset.notes
    assert note.startswith("1 of 3 lines could not be read and was skipped: line 2 (") and BAD[line] in note
    assert note.isprintable() and len(note) < 200


def test_lines_that_need_more_rules_than_the_model_has_are_skipped(write):
    dataset = open_dataset(write(b"x\n1+x+2\n3\n"), DataOptions(grammar="expressions", max_productions=4))
    assert strings(dataset) == ["x", "3"] and dataset.items.shape == (2, 4)
    assert "line 2 (1+x+2: its 6 productions are more than 4)" in dataset.notes[0]


def test_bad_lines_are_named_in_their_order(write):
    dataset = open_dataset(write(b"x\n" * 8 + b"y\ny\n" + b"x\n" * 200), OPTIONS)
    assert [name for name, _ in dataset.skipped] == ["line 9", "line 10"]


@pytest.mark.parametrize("content", [b"C\n" * 3, b"\n", b"y" * 10_000_000, b"\xff\xfe\n\n\n"])
def test_nothing_good(content, write):
    with pytest.raises(RaectlError, match=r"none of the . lines in .* could be read"):
        open_dataset(write(content), OPTIONS)


def test_too_many_bad_lines(write):
    with pytest.raises(RaectlError, match=r"6 of 56 lines in .* could not be read: line 51 "):
        open_dataset(write(b"x\n" * 50 + b"y\n" * 6), OPTIONS)
    with pytest.raises(RaectlError, match="1000 of 6000 lines"):  # the rest is not looked at
        open_dataset(write(b"x\n" * 1000 + b"y\n" * 5000), OPTIONS)


def test_an_empty_file(write):
    with pytest.raises(RaectlError, match="is empty"):
        open_dataset(write(b""), OPTIONS)


def test_a_long_line_takes_no_memory(write):
    path = text.Path(write(b"x\n" + b"x" * 30_000_000))
    tracemalloc.start()
    lines = list(text._read(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(lines) == 2 and peak < 2**20


def test_many_derivations_go_to_a_temporary_file(write, monkeypatch, tmp_path):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "no space left on device")

    many = write("".join(f"{line}\n" for line in itertools.islice(expressions(), 9000)).encode())
    in_memory = open_dataset(many, OPTIONS).items[:]
    monkeypatch.setattr("raectl.data.sources.strings._SPOOLED", 100)
    monkeypatch.setenv("RAECTL_CACHE", str(tmp_path / "another"))
    assert np.array_equal(open_dataset(many, OPTIONS).items, in_memory)
    monkeypatch.setenv("RAECTL_CACHE", str(tmp_path / "a third"))
    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(RaectlError, match=r"no room for the derivations of .*: no space left") as error:
        open_dataset(many, OPTIONS)
    assert "TMPDIR" in error.value.hint and not [*(tmp_path / "a third").rglob("*")]


@pytest.mark.parametrize("room", [0, 5_000, 100_000])
def test_a_full_temporary_disk_is_told_whenever_it_is_met(write, monkeypatch, tmp_path, room):
    class Full(io.FileIO):
        def write(self, data):
            if self.tell() + len(data) > room:
                raise OSError(errno.ENOSPC, "no space left on device")
            return super().write(data)

    many = write("".join(f"{line}\n" for line in itertools.islice(expressions(), 9000)).encode())
    monkeypatch.setenv("RAECTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("raectl.data.sources.strings._SPOOLED", 100)
    full = functools.partial(io.BufferedRandom, Full(tmp_path / "full", "w+"), 2**20)
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: full())
    with pytest.raises(RaectlError, match=r"no room for the derivations"):
        open_dataset(many, OPTIONS)


def test_blank_lines_do_not_count_as_progress(tmp_path):
    (tmp_path / "my.smi").write_text(("\n" * 9 + "CCO\n") * 2500)
    seen = []
    open_dataset(tmp_path / "my.smi", progress=Calls(lambda what, done, total: seen.append((what, done, total))))
    assert [done for what, done, total in seen if (what, total) == ("parsing", 2500)] == [1000, 2000]


# -- molecules -----------------------------------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package `moses` with a few molecules in it."""
    package = tmp_path / "moses"
    (package / "dataset" / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('it is not to be imported')")
    with gzip.open(package / "dataset" / "data" / "train.csv.gz", "wt") as file:
        file.write("SMILES,SPLIT\nCC(=O)Oc1ccccc1,train\nC1=CC=CC=C1,train\n[H]N=C,train\n")
    monkeypatch.syspath_prepend(tmp_path)
    return package


def test_molecules(installed):
    dataset = open_dataset("molecules")
    smiles = grammars.read("smiles")
    assert [smiles.string(row) for row in dataset.items] == ["CC(=O)Oc1ccccc1", "C1=CC=CC=C1"]
    assert [name for name, _ in dataset.skipped] == ["line 3"] and dataset.options.grammar == smiles.text()


def test_damaged_molecules(installed):
    (installed / "dataset" / "data" / "train.csv.gz").write_bytes(b"\x1f\x8b rubbish")
    with pytest.raises(RaectlError, match=r"cannot read .*train\.csv\.gz"):
        open_dataset("molecules")


def test_molecules_that_are_not_installed(monkeypatch):
    monkeypatch.setattr(builtin, "find_spec", lambda name: None)
    with pytest.raises(RaectlError) as error:
        open_dataset("molecules")
    assert error.value.hint == "pip install --no-deps molsets"
