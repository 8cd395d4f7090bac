"""Packing that is interrupted goes on where it stopped; what is converted ahead changes nothing."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from support.data import fill, noise, png, pngs
from support.progress import Calls

from raectl.data import DataOptions, open_dataset, pieces
from raectl.data.images import files as image_files
from raectl.data.images import stored
from raectl.errors import RaectlError
from raectl.progress import Progress

COUNT = 60
FILES = pngs(COUNT) | {"0003b.png": png(noise(8, 8, 3))[:-40], "0050b.png": png(noise(8, 8, 3))[:-40]}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RAECTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(pieces, "_SECONDS", -1.0)
    return tmp_path / "cache"


@pytest.fixture
def decoded(monkeypatch):
    """Grows by one a decoded picture."""
    calls, original = [], stored.row

    def counting(image, options):
        calls.append(image.size)
        return original(image, options)

    monkeypatch.setattr(stored, "row", counting)
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
        open_dataset(source, progress=Calls(progress))


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RaectlError])
def test_an_interrupted_packing_goes_on(tmp_path, cache, decoded, kind, monkeypatch):
    folder = fill(tmp_path / "a", FILES)
    expected = whole(cache, folder)
    assert set(expected) == {"items.npy", "meta.json"}
    if kind is RaectlError:  # nothing is written before the end: what was done is kept nevertheless
        monkeypatch.setattr(pieces, "_SECONDS", 1e9)
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
from raectl.data import open_dataset, pieces
from raectl.progress import Progress
pieces._SECONDS = -1.0
class Killing(Progress):
    def update(self, description, done, total):
        if description == "decoding images" and done >= 30:
            os.kill(os.getpid(), signal.SIGKILL)
open_dataset({str(folder)!r}, progress=Killing())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (left,) = (cache / "packed").iterdir()
    assert left.name.endswith(".partial")
    decoded.clear()
    open_dataset(folder)
    assert len(decoded) <= len(FILES) - 30
    assert entry(cache) == expected


def test_a_killed_packing_loses_no_closed_piece(tmp_path, cache, decoded):
    folder = fill(tmp_path / "a", FILES)
    interrupt(folder, KeyboardInterrupt)
    (left,) = (cache / "packed").iterdir()
    kept = sum(json.loads(path.read_bytes())[0] for path in left.glob("*.json"))
    assert kept >= 20
    decoded.clear()
    open_dataset(folder)
    assert len(decoded) <= len(FILES) - kept


DAMAGES = ["torn record", "lost record", "short rows", "lost rows", "no first rows", "no record", "not JSON", "litter"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_partial_entry_does_no_harm(tmp_path, cache, damage):
    folder = fill(tmp_path / "a", FILES)
    expected = whole(cache, folder)
    interrupt(folder, KeyboardInterrupt)
    (left,) = (cache / "packed").iterdir()
    records = sorted(left.glob("*.json"))
    assert len(records) > 2
    if damage == "torn record":
        records[1].write_bytes(records[1].read_bytes()[:-5])
    elif damage == "lost record":
        records[1].unlink()
    elif damage == "short rows":
        rows = records[1].with_suffix(".npy")
        rows.write_bytes(rows.read_bytes()[:-200])
    elif damage in ("lost rows", "no first rows"):
        records[1 if damage == "lost rows" else 0].with_suffix(".npy").unlink()
    elif damage == "no record":
        for record in records:
            record.unlink()
    elif damage == "not JSON":
        records[1].write_bytes(b"\xff\n[]\n")
    elif damage == "litter":
        (left / "00099.npy").write_bytes(b"of another run")
        (left / ".tmp-new-00007.npy").mkdir()
    open_dataset(folder)
    assert entry(cache) == expected


@pytest.mark.parametrize("size", [1, 500, 2**26])
def test_the_size_of_pieces_changes_nothing(tmp_path, cache, monkeypatch, size):
    folder = fill(tmp_path / "a", FILES)
    expected = whole(cache, folder)
    monkeypatch.setattr(pieces, "_SECONDS", 1e9)
    monkeypatch.setattr(pieces, "_LARGEST", size)
    open_dataset(folder)
    assert entry(cache) == expected


def test_joining_needs_the_space_of_one_piece(tmp_path, cache, monkeypatch):
    usual, most = os.fsync, []

    def measuring(handle):
        most.append(sum(path.stat().st_size for path in cache.rglob("*.npy")))
        usual(handle)

    monkeypatch.setattr(pieces, "_SECONDS", 1e9)
    monkeypatch.setattr(pieces, "_LARGEST", 1500)
    monkeypatch.setattr(os, "fsync", measuring)
    dataset = open_dataset(fill(tmp_path / "a", pngs(100)))
    assert len(most) > 20
    assert max(most) < dataset.items.nbytes + 3000 + 2000  # a piece, and headers of 128 bytes


JOINING = """
import os, signal, sys
from raectl.data import open_dataset, pieces
left = int(sys.argv[2])
def ending(usual):
    def before(*arguments, **options):
        global left
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return usual(*arguments, **options)
    return before
join = pieces.Pieces.join
def joining(self):
    for name in ("fsync", "unlink", "replace", "mkdir", "rmdir"):
        setattr(os, name, ending(getattr(os, name)))
    return join(self)
pieces.Pieces.join = joining
open_dataset(sys.argv[1])
"""


def test_a_kill_before_any_step_of_joining_loses_nothing(tmp_path, cache, decoded, monkeypatch):
    monkeypatch.setattr(pieces, "_SECONDS", 1e9)
    monkeypatch.setattr(pieces, "_LARGEST", 3000)  # three or four pieces
    folder = fill(tmp_path / "a", FILES)
    expected = whole(cache, folder)
    with interrupted_at(pieces.Pieces, "join"):
        open_dataset(folder)
    for step in range(1000):
        interrupted = shutil.copytree(cache, tmp_path / "interrupted", dirs_exist_ok=True)
        environment = {**os.environ, "RAECTL_CACHE": str(interrupted)}
        done = subprocess.run(
            [sys.executable, "-c", JOINING, folder, str(step)], env=environment, capture_output=True, check=False
        )
        if done.returncode == 0:
            assert step > 10, "there are many"
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        decoded.clear()
        monkeypatch.setenv("RAECTL_CACHE", str(interrupted))
        open_dataset(folder)
        assert not decoded, step
        assert entry(interrupted) == expected, step
        shutil.rmtree(interrupted)


@pytest.mark.parametrize("lost", [1, 60, 10**6])
def test_a_joined_file_that_lost_its_end_is_converted_from_there(tmp_path, cache, lost):
    """Whatever the disk did: rows that are not there are converted again."""
    folder = fill(tmp_path / "a", FILES)
    expected = whole(cache, folder)
    with interrupted_at(pieces.Pieces, "move"):
        open_dataset(folder)
    (left,) = (cache / "packed").iterdir()
    (joined,) = left.glob("*.npy")
    content = joined.read_bytes()
    assert content == expected["items.npy"]
    joined.write_bytes(content[: max(0, len(content) - lost)])
    open_dataset(folder)
    assert entry(cache) == expected


@contextlib.contextmanager
def interrupted_at(owner, name, call=1):
    """Interrupts before a call of a function."""
    usual, calls = getattr(owner, name), iter(range(call))

    def interrupted(*arguments):
        if next(calls, call) == call - 1:
            raise KeyboardInterrupt
        return usual(*arguments)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patch.setattr(owner, name, interrupted)
        yield


@pytest.mark.parametrize("end", ["done", "killed", "interrupted here"])
def test_a_second_process_waits_for_the_first(tmp_path, cache, decoded, end):
    folder = fill(tmp_path / "a", FILES)
    expected = whole(cache, folder)
    program = """
import sys
from raectl.data import open_dataset, pieces
from raectl.progress import Progress
pieces._SECONDS = -1.0
class Stopping(Progress):
    def update(self, description, done, total):
        if description == "decoding images" and done >= 30:
            print("half", flush=True)
            sys.stdin.readline()
open_dataset(sys.argv[1], progress=Stopping())
"""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program, folder], stdin=pipe, stdout=pipe, text=True) as first:
        assert first.stdout.readline() == "half\n"
        notes = []

        class Ending(Progress):
            def note(self, text):
                notes.append(text)
                if end == "done":
                    first.stdin.write("\n" * len(FILES))
                    first.stdin.close()
                elif end == "killed":
                    first.kill()
                else:
                    raise KeyboardInterrupt

        decoded.clear()
        if end == "interrupted here":
            with pytest.raises(KeyboardInterrupt):
                open_dataset(folder, progress=Ending())
            assert not decoded
            first.kill()
        open_dataset(folder, progress=Ending())
    assert len(notes) == 1 and "waiting for it" in notes[0]
    assert len(decoded) == 0 if end == "done" else len(decoded) <= len(FILES) - 30
    assert entry(cache) == expected


def test_without_locks_two_do_the_work_twice(tmp_path, cache, monkeypatch):
    folder = fill(tmp_path / "a", FILES)
    expected = whole(cache, folder)
    monkeypatch.setattr(pieces, "try_lock", lambda _: None)
    interrupt(folder, KeyboardInterrupt)
    assert not [*(cache / "packed").iterdir()], "nothing is kept that another process may be writing"
    open_dataset(folder)
    assert entry(cache) == expected


def test_what_a_process_left_that_was_killed_at_the_very_end_is_removed(tmp_path, cache):
    folder = fill(tmp_path / "a", FILES)
    expected = whole(cache, folder)
    with interrupted_at(pieces, "_clear", call=2):
        open_dataset(folder)
    assert len([*(cache / "packed").iterdir()]) == 2
    open_dataset(folder)
    assert entry(cache) == expected


def test_the_conversion_of_an_array_goes_on(tmp_path, cache, monkeypatch):
    monkeypatch.setattr("raectl.data.images.array._BLOCK", 2000)
    np.save(tmp_path / "a.npy", noise(50, 10, 10))
    options = DataOptions(image_size=16)
    open_dataset(tmp_path / "a.npy", options)
    expected = entry(cache)
    shutil.rmtree(cache)

    def progress(description, done, total):
        if done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_dataset(tmp_path / "a.npy", options, Calls(progress))
    calls = []
    open_dataset(tmp_path / "a.npy", options, Calls(lambda *call: calls.append(call[1])))
    assert min(calls) > 20 and max(calls) == 50
    assert entry(cache) == expected


def test_a_file_that_changes_while_it_is_read_is_bad(tmp_path, cache):
    folder = fill(tmp_path / "a", pngs(10))

    def progress(description, done, total):
        if (description, done) == ("reading images", total):
            fill(folder, {"0004.png": png(noise(8, 8, 3, seed=99))})

    dataset = open_dataset(folder, progress=Calls(progress))
    assert dataset.skipped == (("0004.png", "changed while it was being read"),)
    assert open_dataset(folder).skipped == (), "its new state is another one"


@pytest.mark.parametrize("odd", [None, "first", "later", "bytes", "bad"])
def test_what_is_converted_ahead_changes_nothing(tmp_path, cache, decoded, monkeypatch, odd):
    """The guess is right; wrong from the start; wrong in the end; some are of bytes; one in between is broken."""
    files = {f"{number:03}.png": deep(40000, number) for number in range(100)}
    if odd == "first":
        files |= {f"{number:03}.png": deep(4000, number) for number in range(image_files._GUESSED)}
    elif odd == "later":
        files["099.png"] = deep(40000, 3, size=20)
    elif odd == "bytes":
        files |= {f"{number:03}.png": png(noise(16, 16, seed=number)) for number in range(0, 100, 9)}
    elif odd == "bad":
        files["050.png"] = files["050.png"][:300]
    folder = fill(tmp_path / "a", files)
    monkeypatch.setattr(image_files, "_PREFETCHED", 0)
    expected = whole(cache, folder)
    assert len(decoded) >= 100 - (odd == "bad")
    monkeypatch.setattr(image_files, "_PREFETCHED", 2**26)
    decoded.clear()
    open_dataset(folder)
    assert entry(cache) == expected
    assert len(decoded) == {None: 100, "first": 200, "later": 201, "bytes": 100 + 88, "bad": 99}[odd]


def deep(high: int, seed: int, size: int = 16) -> bytes:
    """A PNG of values from 0 to `high`."""
    values = np.random.default_rng(seed).integers(0, high, (size, 16), np.uint16)
    values[0, 0] = high
    return bytes(imagecodecs.png_encode(values))


def test_an_entry_does_not_depend_on_the_tolerance_of_bad_items_nor_on_what_is_shown():
    assert {*vars(DataOptions())} - {*DataOptions().form} == {"max_bad", "strict", "bands"}
