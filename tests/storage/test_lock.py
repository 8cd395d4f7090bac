"""Two at once: one writer to a directory, any number of readers, and no lock that outlives its process."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cli import Cli, assert_clear_error, assert_same_run, no_leftovers, tree

import raectl
from raectl.checkpoint.directory import Directory
from raectl.storage import atomic, lock
from raectl.storage.arrays import read_arrays
from raectl.training.loop import Loop
from raectl.training.run import Run

HOLD = """
import sys, time
from pathlib import Path
from raectl.storage.lock import Lock
with Lock(Path(sys.argv[1]), print) as lock:
    lock.acquire()
    print("held", flush=True)
    time.sleep(3600)
"""


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has locked a directory."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


WRITERS = {
    "train --resume": "train --resume --out {ckpt} --epochs 3",
    "train --overwrite": "train --data digits --image-size 12 --width 2 --epochs 1 --overwrite --out {ckpt}",
    "fit-density": "fit-density {ckpt} --density gaussian",
}
READERS = {
    "info": "info {ckpt}",
    "sample": "sample {ckpt} -n 2 -o {home}/out.npz",
    "reconstruct": "reconstruct {ckpt} --data {data} -o {home}/pairs.png",
    "evaluate": "evaluate {ckpt} --data {data} --features pixels -n 20 --density gaussian",
}


def test_a_second_writer_is_kept_out_and_readers_are_not(cli: Cli, trained: Any, tmp_path: Path) -> None:
    names = {"ckpt": trained.path, "home": tmp_path, "data": trained.data}
    with holder(trained.path) as process:
        before = tree(trained.path)
        for command in WRITERS.values():
            result = cli.run(*command.format(**names).split())
            assert_clear_error(result, 1, f"{trained.path} is in use by process {process.pid} on ", ", since 2", "wait")
            assert tree(trained.path) == before
        for command in READERS.values():
            cli(*command.format(**names).split())
        process.kill()
        process.wait()
        assert (trained.path / lock.NAME).exists(), "a killed process leaves the file"
        cli(*WRITERS["fit-density"].format(**names).split())
        assert not (trained.path / lock.NAME).exists(), "but no lock"
        cli(*WRITERS["train --resume"].format(**names).split())
        no_leftovers(trained.path)


def test_densities_of_latents_have_one_writer_too(cli: Cli, tmp_path: Path) -> None:
    latents, directory = tmp_path / "z.npy", tmp_path / "only"
    np.save(latents, np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32))
    fit = ("fit-density", directory, "--latents", latents, "--density", "gaussian")
    cli(*fit)
    with holder(directory):
        assert_clear_error(cli.run(*fit), 1, "is in use by process")
        cli("sample", directory, "-n", 2, "-o", tmp_path / "out.npy")
    cli(*fit)
    assert {path.name for path in directory.iterdir()} == {"densities"}


def test_a_run_is_locked_from_its_first_moment_to_its_last(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is new, resumed, or takes the place of another, and nobody can get between."""
    seen = []
    usual = Run._tell

    def tell(self: Run, rate: float) -> None:
        with lock.Lock(self.directory.path, print) as other, pytest.raises(raectl.RaectlError, match="in use") as error:
            other.acquire()
        seen.append(str(error.value))
        usual(self, rate)

    monkeypatch.setattr(Run, "_tell", tell)
    config = raectl.Config(width=2, latent_dim=4, image_size=16, epochs=1, batch_size=54, device="cpu")
    out = tmp_path / "new"
    raectl.train(config, trained.data, out)
    raectl.train(config.replace(epochs=2), out=out, resume=True)
    raectl.train(config, trained.data, out, overwrite=True)
    assert len(seen) == 3
    assert all(f"process {os.getpid()} on " in text for text in seen)
    assert not (out / lock.NAME).exists()
    no_leftovers(tmp_path)


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_second_of_two_runs_that_make_one_directory_yields(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    """The first is made, and goes on, while the second still reads its data."""
    config = raectl.Config(width=2, latent_dim=4, image_size=16, epochs=1, batch_size=54, device="cpu")
    out = tmp_path / "new"
    usual = Run.create

    def create(self: Run, *arguments: Any, **options: Any) -> None:
        monkeypatch.setattr(Run, "create", usual)
        with lock.Lock(out, print) as other:
            raectl.train(config.replace(seed=5), trained.data, out)
            other.acquire()
            usual(self, *arguments, **options)

    monkeypatch.setattr(Run, "create", create)
    with pytest.raises(raectl.RaectlError, match=f"in use by process {os.getpid()}"):
        raectl.train(config, trained.data, out, overwrite=overwrite)
    assert Directory(out).read_config().resolved.seed == 5
    raectl.load(out, "cpu")


def test_two_processes_train_at_once(trained: Any, tmp_path: Path) -> None:
    """Real ones: exactly one of them goes on to the end, and its run is that of one alone."""
    command = [sys.executable, "-m", "raectl", "train", "--resume", "--epochs", "30", "--out", str(trained.path)]
    whole = Path(shutil.copytree(trained.path, tmp_path / "whole"))
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    texts = [process.communicate()[1] for process in both]
    assert sorted(process.returncode for process in both) in ([0, 0], [0, 1]), texts
    for process, text in zip(both, texts, strict=True):
        assert (process.returncode == 1) == ("is in use by process" in text)
    raectl.train(raectl.Config(epochs=30), out=whole, resume=True)
    assert_same_run(whole, trained.path)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_of(
    cli: Cli, trained: Any, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("filelock.lock_descriptor", refuse)
    result = cli("fit-density", trained.path, "--density", "gaussian")
    assert "cannot be locked here" in result.err
    no_leftovers(trained.path)
    assert not (trained.path / lock.NAME).exists()
    cli("train", "--resume", "--out", trained.path, "--epochs", 3)


def test_a_system_without_locks_does_without(cli: Cli, trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "try_lock", lambda _: None)
    monkeypatch.setattr(atomic, "_IS_POSIX", False)
    cli("train", "--resume", "--out", trained.path, "--epochs", 3)
    cli("fit-density", trained.path, "--density", "gaussian")
    no_leftovers(trained.path)


def test_what_a_living_process_writes_is_left_alone(tmp_path: Path) -> None:
    with atomic.atomic_file(tmp_path / "a.json") as one, atomic.atomic_file(tmp_path / "a.json") as two:
        assert one != two
        one.write_text("one")
        two.write_text("two")
        atomic.remove_temporaries(tmp_path)
        assert one.exists() and two.exists()
    assert (tmp_path / "a.json").read_text() == "one"
    with atomic.atomic_directory(tmp_path / "d") as one:
        with atomic.atomic_directory(tmp_path / "d") as two:
            (two / "x").write_text("two")
        (one / "x").write_text("one")
        atomic.remove_temporaries(tmp_path)
    assert (tmp_path / "d" / "x").read_text() == "one"
    no_leftovers(tmp_path)


def test_a_directory_in_exchange_is_not_taken_for_a_killed_process_s(tmp_path: Path) -> None:
    """A reader waits for the living process; once that is gone, it brings the former directory back."""
    former = tmp_path / ".tmp-old-d"
    former.mkdir()
    handle = os.open(former, os.O_RDONLY)
    assert lock.try_lock(handle)
    atomic.recover(tmp_path / "d")
    assert former.exists()
    os.close(handle)
    atomic.recover(tmp_path / "d")
    assert (tmp_path / "d").exists()


def test_a_killed_process_s_temporary_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".tmp-new-a.txt").write_text("half")
    (tmp_path / ".tmp-new-d").mkdir()
    (tmp_path / ".tmp-new-d" / "half").write_text("half")
    atomic.write_text(tmp_path / "a.txt", "whole")
    with atomic.atomic_directory(tmp_path / "d") as directory:
        (directory / "whole").write_text("whole")
    assert tree(tmp_path) == {"a.txt": b"whole", "d/": b"", "d/whole": b"whole"}


def test_a_name_too_long_for_a_temporary_s_is_written_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 250 + ".json")
    atomic.write_text(path, "whole")
    assert path.read_text() == "whole"


def test_a_reader_meets_a_run_that_writes(original: Any, trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """New weights are published between a reader's look at config.json and at the weights."""
    later = raectl.train(raectl.Config(epochs=4), out=trained.path, resume=True)
    directory = Directory(Path(original.path))
    usual, looks = Directory.read_config, []

    def read_config(self: Directory) -> Any:
        result = usual(self)
        if not looks:
            for name in ("config.json", "model.safetensors"):
                shutil.copy(trained.path / name, copy / name)
        looks.append(self)
        return result

    copy = Path(shutil.copytree(directory.path, trained.path.parent / "copy"))
    monkeypatch.setattr(Directory, "read_config", read_config)
    assert raectl.load(copy, "cpu").weights == later.weights
    assert len(looks) == 2


# -- a second signal -------------------------------------------------------------------------------------------------


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Ctrl-C as a terminal has it; a shell starts what is in the background, as CI may, without it."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.usefixtures("_interruptible")
def test_a_second_interrupt_is_immediate(cli: Cli, trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes while the first one's save is under way: nothing is saved, and nothing that was saved is lost."""
    before = read_arrays(trained.path / "training.safetensors", Any)[1]
    step, save, ends = Loop.step, Run.save, []

    def stepping(self: Loop, rows: np.ndarray) -> None:
        step(self, rows)
        signal.raise_signal(signal.SIGINT)

    def saving(self: Run) -> None:
        signal.raise_signal(signal.SIGINT)
        ends.append("not interrupted")
        save(self)

    monkeypatch.setattr(Loop, "step", stepping)
    monkeypatch.setattr(Run, "save", saving)
    result = cli.run("train", "--resume", "--out", trained.path, "--epochs", 50)
    assert result.code == 130
    assert "Traceback" not in result.err and "saved" not in result.err
    assert not ends
    assert read_arrays(trained.path / "training.safetensors", Any)[1] == before
    no_leftovers(trained.path)
    assert not (trained.path / lock.NAME).exists()
