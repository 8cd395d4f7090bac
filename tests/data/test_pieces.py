"""Packing that is interrupted goes on where it stopped, and helpers decode what this process would."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from support.data import fill, noise, png, pngs
from support.progress import Calls

from raectl.data import DataOptions, open_dataset, pieces
from raectl.data.images import decode, parallel, workers
from raectl.data.images import files as image_files
from raectl.data.images.workers import WorkerPool
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
    calls, original = [], decode.square

    def counting(image, options):
        calls.append(image.size)
        return original(image, options)

    monkeypatch.setattr(decode, "square", counting)
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
    kept = sum(json.loads(path.read_bytes())["rows"] for path in left.glob("*.json"))
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


# -- worker processes -------------------------------------------------------------------------------------------------

linux = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked, which is safe on Linux only")
OPTIONS = DataOptions(8, "crop", "white", channels=3)


def same(decoded):
    return decoded


def processes(pool):
    return [*pool._executor._processes.values()]


@linux
def test_workers_give_the_same_bytes(tmp_path, cache, decoded, monkeypatch):
    folder = fill(tmp_path / "a", FILES | {"large.png": png(noise(300, 300, 3))})
    expected = whole(cache, folder)
    monkeypatch.setattr("raectl.data.images.workers._MIN_IMAGES", 10)
    monkeypatch.setattr(parallel, "usable_cores", lambda: 2)
    started, tasks = [], []

    class Watched(WorkerPool):
        def start(self, count):
            super().start(count)
            started.extend(processes(self))

        def submit(self, *arguments):
            tasks.append(super().submit(*arguments))
            return tasks[-1]

    monkeypatch.setattr(image_files, "WorkerPool", Watched)
    dataset = open_dataset(folder)
    assert entry(cache) == expected
    assert len(dataset.skipped) == 2
    assert any(isinstance(task, workers._Task) for task in tasks), "workers did some"
    assert started and not any(process.is_alive() for process in started), "and have ended"


@linux
def test_a_worker_that_dies_is_done_without(monkeypatch):
    monkeypatch.setattr("raectl.data.images.workers._MIN_IMAGES", 1)
    pictures = [*(png(noise(8, 8, 3, seed=seed)) for seed in range(4)), b"no image"]
    with WorkerPool() as pool:
        pool.start(5)
        os.kill(processes(pool)[0].pid, signal.SIGSTOP)
        tasks = [pool.submit(pictures, OPTIONS, same) for _ in range(3)]
        assert pool
        for process in processes(pool):
            process.kill()
            process.join()
        deadline = time.monotonic() + 30
        while pool and time.monotonic() < deadline:
            tasks.append(pool.submit(pictures, OPTIONS, same))
        assert not pool, "then threads do the work"
        for task in tasks:
            rows, outcomes = task.result()
            assert np.array_equal(rows, np.stack([noise(8, 8, 3, seed=seed) for seed in range(4)]))
            assert [outcome.reason for outcome in outcomes] == [None] * 4 + ["no image of a known format"]
            assert [outcome.header for outcome in outcomes] == [((8, 8), False, 1)] * 4 + [None]


@linux
def test_a_worker_leaves_large_pictures_and_has_bounded_work(monkeypatch):
    monkeypatch.setattr("raectl.data.images.workers._MIN_IMAGES", 1)
    monkeypatch.setattr(workers, "usable_cores", lambda: 2)
    with WorkerPool() as pool:
        pool.start(1)
        large = pool.submit([png(np.zeros((300, 300, 3), np.uint8))], OPTIONS, same)
        rows, ((reason, header, _),) = large.result()
        assert len(rows) == 0 and reason == "more than 65,536 pixels" and header == ((300, 300), False, 1)
        (process,) = processes(pool)
        os.kill(process.pid, signal.SIGSTOP)
        pictures = [png(noise(100, 100, 3))] * 10
        tasks = [pool.submit(pictures, OPTIONS, same) for _ in range(4)]
        assert [task.done() for task in tasks] == [False, False, True, True], "what it cannot take is done here"
        os.kill(process.pid, signal.SIGCONT)
        assert all(np.array_equal(task.result()[0], tasks[2].result()[0]) for task in tasks)


@linux
def test_workers_end_with_a_process_that_is_killed():
    program = """
import os, signal, time
from raectl.data.images import workers
workers._MIN_IMAGES = 1
pool = workers.WorkerPool()
pool.start(1)
print(*(process.pid for process in pool._executor._processes.values()), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    deadline = time.monotonic() + 30
    for pid in map(int, done.stdout.split()):
        while is_running(pid):
            assert time.monotonic() < deadline, "a worker outlives its process"
            time.sleep(0.01)


@linux
@pytest.mark.parametrize("allowed", [0, 1])
def test_without_processes_threads_do_the_work(monkeypatch, allowed):
    monkeypatch.setattr("raectl.data.images.workers._MIN_IMAGES", 1)
    monkeypatch.setattr(workers, "usable_cores", lambda: 4)
    usual, forked = os.fork, []

    def fork():
        if len(forked) >= allowed:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        forked.append(usual())
        return forked[-1]

    monkeypatch.setattr(os, "fork", fork)
    with WorkerPool() as pool:
        pool.start(5)
        assert not pool
        rows, _ = pool.submit([png(noise(8, 8, 3))], OPTIONS, same).result()
        assert np.array_equal(rows, noise(8, 8, 3)[None])
    assert not any(is_running(pid) for pid in forked)


@linux
def test_a_daemonic_process_decodes_by_itself(tmp_path):
    """As a worker of torch's DataLoader is one, which may have no children."""
    program = """
import multiprocessing, sys
from raectl.data.images import workers
workers._MIN_IMAGES = 1
def work():
    with workers.WorkerPool() as pool:
        pool.start(5)
        sys.exit(7 if not pool else 1)
process = multiprocessing.get_context("fork").Process(target=work, daemon=True)
process.start()
process.join()
sys.exit(process.exitcode)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr


def is_running(pid):
    try:
        return "State:\tZ" not in pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.parametrize("odd", [None, "first", "later", "bad"])
def test_what_is_decoded_ahead_changes_nothing(tmp_path, cache, decoded, monkeypatch, odd):
    """The guess is right; wrong from the start; wrong in the end; a picture in between is broken."""
    files = {f"{number:03}.png": png(noise(16, 16, 3, seed=number)) for number in range(100)}
    if odd == "first":
        files |= {f"{number:03}.png": png(noise(16, 16, seed=number)) for number in range(image_files._PER_TASK)}
    elif odd == "later":
        files["099.png"] = png(noise(20, 16, 3))
    elif odd == "bad":
        files["050.png"] = files["050.png"][:300]
    folder = fill(tmp_path / "a", files)
    expected = whole(cache, folder)
    monkeypatch.setattr("raectl.data.images.workers._MIN_IMAGES", 10)
    monkeypatch.setattr(image_files, "usable_cores", lambda: 2)
    monkeypatch.setattr(workers.WorkerPool, "submit", _here)
    decoded.clear()
    open_dataset(folder)
    assert entry(cache) == expected
    assert len(decoded) == {None: 100, "first": 200, "later": 201, "bad": 100 + 12}[odd]


def _here(self, files, options, finish):
    done = Future()
    done.set_result(finish(workers._decode(files, options)))
    return done


def test_an_entry_does_not_depend_on_the_tolerance_of_bad_items():
    assert {*vars(DataOptions())} - {*DataOptions().form} == {"max_bad", "strict"}
