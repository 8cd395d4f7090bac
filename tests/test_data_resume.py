"""Packing that is interrupted goes on where it stopped, and helpers decode what this process would."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_helpers import fill, noise, png, pngs

from raectl.data import DataOptions, convert, listing, open_dataset, parallel, partial
from raectl.data.crew import Crew
from raectl.errors import RaectlError

COUNT = 60
FILES = pngs(COUNT) | {"0003b.png": png(noise(8, 8, 3))[:-40], "0050b.png": png(noise(8, 8, 3))[:-40]}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RAECTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(partial, "_SAVE_SECONDS", -1.0)
    return tmp_path / "cache"


@pytest.fixture
def decoded(monkeypatch):
    """Grows by one a decoded picture."""
    calls, original = [], convert.picture

    def counting(data, options):
        calls.append(len(data))
        return original(data, options)

    monkeypatch.setattr(convert, "picture", counting)
    return calls


def whole(cache: Path, source: object) -> dict[str, bytes]:
    """The cache's entry of a source that is opened without an interruption."""
    shutil.rmtree(cache, ignore_errors=True)
    open_dataset(source)
    found = entry(cache)
    shutil.rmtree(cache)
    return found


def entry(cache: Path) -> dict[str, bytes]:
    (directory,) = (cache / "packed").iterdir()  # and no partial one
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def interrupt(source: object, kind: type[BaseException], at: int = 20) -> None:
    def progress(description, done, total):
        if description != "reading images" and done >= at:
            raise kind("enough")

    with pytest.raises(kind):
        open_dataset(source, progress=progress)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RaectlError])
def test_an_interrupted_packing_goes_on(tmp_path, cache, decoded, kind, monkeypatch):
    folder = fill(tmp_path / "a", FILES)
    expected = whole(cache, folder)
    assert set(expected) == {"items.npy", "meta.json"}
    if kind is RaectlError:  # nothing is written before the end: what was done is kept nevertheless
        monkeypatch.setattr(partial, "_SAVE_SECONDS", 1e9)
    interrupt(folder, kind)
    decoded.clear()
    dataset = open_dataset(folder)
    assert len(decoded) <= len(FILES) - 20
    assert entry(cache) == expected
    assert [name for name, _ in dataset.skipped] == ["0003b.png", "0050b.png"]
    assert len(dataset) == COUNT


def test_a_killed_packing_goes_on(tmp_path, cache, decoded):
    folder = fill(tmp_path / "a", FILES)
    expected = whole(cache, folder)
    program = f"""
import os, signal
from raectl.data import open_dataset, partial
partial._SAVE_SECONDS = -1.0
def progress(description, done, total):
    if description == "decoding images" and done >= 30:
        os.kill(os.getpid(), signal.SIGKILL)
open_dataset({str(folder)!r}, progress=progress)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (left,) = (cache / "packed").iterdir()
    assert left.name.endswith(".partial")
    decoded.clear()
    open_dataset(folder)
    assert len(decoded) <= len(FILES) - 30
    assert entry(cache) == expected


@pytest.mark.parametrize("damage", ["torn", "lost line", "short", "no items", "no journal", "not JSON", "locked"])
def test_a_damaged_or_busy_partial_entry_does_no_harm(tmp_path, cache, damage):
    folder = fill(tmp_path / "a", FILES)
    expected = whole(cache, folder)
    interrupt(folder, KeyboardInterrupt)
    (left,) = (cache / "packed").iterdir()
    journal, items = left / "journal.jsonl", left / "items.npy"
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) > 2
    assert json.loads(lines[-1])["done"] >= 20
    if damage == "torn":
        journal.write_bytes(b"".join(lines)[:-5])
    elif damage == "lost line":
        journal.write_bytes(b"".join(lines[:1] + lines[2:]))
    elif damage == "short":
        items.write_bytes(items.read_bytes()[:-200])
    elif damage == "no items":
        items.unlink()
    elif damage == "no journal":
        journal.unlink()
    elif damage == "not JSON":
        journal.write_bytes(b"\xff\n[]\n")
    if damage == "locked":
        with partial.Partial(left.with_suffix(""), (8, 8, 3)):
            before = journal.read_bytes()
            assert len(open_dataset(folder)) == COUNT
            assert journal.read_bytes() == before
    else:
        open_dataset(folder)
        assert entry(cache) == expected


def test_the_conversion_of_an_array_goes_on(tmp_path, cache, monkeypatch):
    monkeypatch.setattr("raectl.data.uniform._BLOCK", 2000)
    np.save(tmp_path / "a.npy", noise(50, 10, 10))
    options = DataOptions(image_size=16)
    open_dataset(tmp_path / "a.npy", options)
    expected = entry(cache)
    shutil.rmtree(cache)

    def progress(description, done, total):
        if done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_dataset(tmp_path / "a.npy", options, progress)
    calls = []
    open_dataset(tmp_path / "a.npy", options, lambda *call: calls.append(call[1]))
    assert min(calls) > 20 and max(calls) == 50
    assert entry(cache) == expected


def test_a_file_that_changes_while_it_is_read_is_bad(tmp_path, cache):
    folder = fill(tmp_path / "a", pngs(10))

    def progress(description, done, total):
        if (description, done) == ("reading images", total):
            fill(folder, {"0004.png": png(noise(8, 8, 3, seed=99))})

    dataset = open_dataset(folder, progress=progress)
    assert dataset.skipped == (("0004.png", "changed while it was being read"),)
    assert open_dataset(folder).skipped == (), "its new state is another one"


# -- helper processes -------------------------------------------------------------------------------------------------


def test_helpers_give_the_same_bytes(tmp_path, cache, decoded, monkeypatch):
    folder = fill(tmp_path / "a", FILES | {"large.png": png(noise(300, 300, 3))})
    expected = whole(cache, folder)
    decoded.clear()
    monkeypatch.setattr("raectl.data.crew._WORTH", 10)
    monkeypatch.setattr(parallel, "workers", lambda: 2)
    started = []
    monkeypatch.setattr(listing, "Crew", lambda: started.append(Crew()) or started[-1])
    dataset = open_dataset(folder)
    assert entry(cache) == expected
    assert len(dataset.skipped) == 2
    assert len(decoded) < len(FILES), "helpers did some"
    (crew,) = started
    assert crew._all and all(process.returncode is not None for process in crew._all), "and have ended"


def test_a_helper_that_dies_is_done_without(monkeypatch):
    monkeypatch.setattr("raectl.data.crew._WORTH", 1)
    files = [png(noise(8, 8, 3, seed=seed)) for seed in range(4)] + [b"no image"]
    options = DataOptions(8, "crop", "white", 3)
    with Crew() as crew:
        crew.start(5)
        for process in crew._all:
            process.kill()
            process.wait()
        for _ in range(len(crew._all) + 1):
            rows, reasons = crew.pictures(files, options)
            assert np.array_equal(rows, np.stack([noise(8, 8, 3, seed=seed) for seed in range(4)]))
            assert reasons == [None] * 4 + ["no image of a known format"]
        assert crew._idle.empty()


def test_a_helper_is_not_misled_by_modules_in_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("raectl.data.crew._WORTH", 1)
    monkeypatch.setattr(convert, "pictures", lambda *_: pytest.fail("no helper answered"))
    with Crew() as crew:
        crew.start(1)
        assert crew.pictures([png(noise(8, 8, 3))], DataOptions(8, "crop", "white", 3))[1] == [None]


def test_an_entry_does_not_depend_on_the_tolerance_of_bad_items():
    assert {*vars(DataOptions())} - {*DataOptions().form} == {"max_bad", "strict"}
