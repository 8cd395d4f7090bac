"""Commands in processes that end badly: killed at a moment or before a chosen file operation, or refused by the disk.

The processes are forked from one that has imported torch, which spares each of them two seconds; `Real` starts the
program anew instead. Every command works in the directory `home`, with a cache of its own there.
"""

import contextlib
import errno
import importlib
import os
import resource
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch

from raectl.cli import main as program

torch.set_num_threads(1)  # a process with threads of its own is not to be forked
_NEVER = 10**6  # seconds
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
_CHANGES = {"os.rename", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "fsync"}
_REMOVALS = {"os.remove", "os.rmdir"}

Fault = Callable[[Path], None]  # called in the process before the command, with `home`


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, negative if a signal ended it, what it printed, and its seconds."""

    code: int
    out: str
    err: str
    seconds: float


class Forked:
    """Runs commands in forks of this process."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def run(self, arguments: Sequence[object], *, kill_after: float = _NEVER, fault: Fault | None = None) -> Ended:
        """Run `raectl ARGUMENTS`, and kill it after some seconds."""
        (out, to_out), (err, to_err) = os.pipe(), os.pipe()  # which hold more than a command says
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            self._be([str(argument) for argument in arguments], (to_out, to_err), fault)
        os.close(to_out)
        os.close(to_err)
        code = _wait(child, began + kill_after)
        seconds = time.monotonic() - began
        with open(out, encoding="utf-8", errors="replace") as said, open(err, encoding="utf-8") as talked:
            return Ended(code, said.read(), talked.read(), seconds)

    def _be(self, arguments: list[str], streams: tuple[int, int], fault: Fault | None) -> None:
        code = 70
        try:
            for stream, handle in enumerate(streams, 1):
                os.dup2(handle, stream)
            os.chdir(self.home)
            os.environ["RAECTL_CACHE"] = str(self.home / "cache")
            sys.argv = ["raectl", *arguments]
            if fault:
                fault(self.home)
            program.main()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def learn(self, commands: Iterable[Sequence[object]]) -> None:
        """Run commands, and import here what they imported, so that later forks do not spend their time on that."""
        seen = self.home.parent / "modules"

        def note(home: Path) -> None:
            usual = os._exit

            def leave(code: int) -> NoReturn:
                with open(seen, "a", encoding="utf-8") as file:
                    file.write("".join(f"{name}\n" for name in sys.modules))
                usual(code)

            os._exit = leave

        for command in commands:
            self.run(command, fault=note)
        for name in dict.fromkeys(seen.read_text().split()):
            with contextlib.suppress(ImportError, AttributeError, ValueError):
                importlib.import_module(name)


class Real:
    """Runs commands as a user does: a new interpreter each."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def run(self, arguments: Sequence[object], *, kill_after: float = _NEVER) -> Ended:
        """Run `python -m raectl ARGUMENTS`, and kill it after some seconds."""
        began = time.monotonic()
        command = [sys.executable, "-m", "raectl", *map(str, arguments)]
        cache = {"RAECTL_CACHE": str(self.home / "cache")}
        with subprocess.Popen(
            command,
            cwd=self.home,
            env={**os.environ, **cache},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                out, err = process.communicate(timeout=kill_after)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
        return Ended(process.returncode, out, err, time.monotonic() - began)


def _wait(child: int, deadline: float) -> int:
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            os.kill(child, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        time.sleep(0.0005)


# -- faults at the boundaries of file operations ---------------------------------------------------------------------


def _watch(home: Path, see: Callable[[str, Any], None]) -> None:
    """Call `see` before every operation that changes a file or a directory in `home`."""

    def is_ours(path: Any) -> bool:
        if not isinstance(path, str | os.PathLike):
            return False
        return not Path(path).is_absolute() or str(path).startswith(f"{home}/")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and is_ours(arguments[0]) and (arguments[2] or 0) & _WRITES:
            see("open", arguments[0])
        elif event in _CHANGES | _REMOVALS and is_ours(arguments[0]):
            see(event, arguments[0])

    usual = os.fsync

    def fsync(handle: int) -> None:
        see("fsync", handle)
        usual(handle)

    os.fsync = fsync
    sys.addaudithook(hook)


def counting(to: Path) -> Fault:
    """No fault: how many operations there are is written to a file, one character each."""

    def install(home: Path) -> None:
        handle = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        _watch(home, lambda event, path: os.write(handle, b".") and None)

    return install


def ending_before(number: int, *, torn: bool = False) -> Fault:
    """The process is gone before its operation of this number.

    Arguments:
        torn: if that is the flush of a file, half of the file has not been written either.
    """

    def install(home: Path) -> None:
        seen = 0

        def see(event: str, path: Any) -> None:
            nonlocal seen
            seen += 1
            if seen == number:
                if torn and event == "fsync" and stat.S_ISREG(os.fstat(path).st_mode):
                    os.ftruncate(path, os.fstat(path).st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)

        _watch(home, see)

    return install


def refusing_from(number: int) -> Fault:
    """From its operation of this number on the disk is full; removing goes on."""
    return _refusing(number, errno.ENOSPC, frozenset(_REMOVALS))


def read_only() -> Fault:
    """The disk takes no change."""
    return _refusing(1, errno.EROFS, frozenset())


def _refusing(number: int, code: int, allowed: frozenset[str]) -> Fault:

    def install(home: Path) -> None:
        seen = 0

        def see(event: str, path: Any) -> None:
            nonlocal seen
            seen += 1
            if seen >= number and event not in allowed:
                raise OSError(code, os.strerror(code))

        _watch(home, see)

    return install


def vanishing_before(number: int) -> Fault:
    """Before its operation of this number somebody moves the directory `ckpt` to `gone`."""

    def install(home: Path) -> None:
        seen = 0

        def see(event: str, path: Any) -> None:
            nonlocal seen
            seen += 1
            if seen == number and (home / "ckpt").exists():
                (home / "ckpt").rename(home / "gone")

        _watch(home, see)

    return install


def full_at(size: int) -> Fault:
    """No file becomes longer than so many bytes: a write ends in its middle."""

    def install(home: Path) -> None:
        sys.dont_write_bytecode = True  # Python 3.11 would leave a part of it, and fail to import it ever after
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return install
