"""Worker processes that decode small images: Pillow holds Python's lock for most of the time such an image takes.

A worker takes 0.1 s to start, so only thousands of images are worth it. There is one for each core but one: that is for
this process, which decodes as well, in its main thread, whenever all workers have enough to do.
"""

import contextlib
import io
import math
import os
import select
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TypeVar, cast

import numpy as np

from raectl.data import limits
from raectl.data.images import decode, worker
from raectl.data.images.parallel import workers
from raectl.data.options import DataOptions

_WORTH = 2000  # pictures from which on workers are started
_PIPE = 2**20  # bytes
_AHEAD = 2  # requests that a worker has at most
SMALL_PIXELS, SMALL_BYTES = 2**16, 2**18  # the largest picture that a worker is given

Decoded = tuple[np.ndarray, list[decode.Outcome]]
R = TypeVar("R")


class WorkerPool:
    """Worker processes. Use as a context manager, which ends them; without any, this process does all the work."""

    def __init__(self) -> None:
        self.workers: list[_Worker] = []

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in self.workers:
            one.end()

    def __bool__(self) -> bool:
        """Whether there are workers."""
        return any(not one.gone for one in self.workers)

    def start(self, count: int) -> None:
        """Have workers ready for so many pictures; to be called early, because they take a moment to start."""
        if count < _WORTH or not sys.executable or not hasattr(select, "poll"):
            return
        for _ in range(max(1, workers() - 1)):
            with contextlib.suppress(OSError):  # it goes without
                self.workers.append(_Worker())

    def submit(self, files: Sequence[bytes], options: DataOptions, finish: Callable[[Decoded], R]) -> "Task[R]":
        """`decode.pictures` of files of at most `SMALL_BYTES` and `SMALL_PIXELS` each: the future of `finish` of it.

        If no worker can take them, they are decoded here and now.
        """
        task = Task(files, options, finish)
        if not any(one.take(task) for one in self.workers):
            task.work()
        return task


class Task(Future[R]):
    """Some pictures to decode, or what became of them: a future whose work a worker process does."""

    def __init__(self, files: Sequence[bytes], options: DataOptions, finish: Callable[[Decoded], R]) -> None:
        super().__init__()
        self.files, self.options = files, options
        self._finish = finish
        self.worker: _Worker | None = None
        self.decoded: Decoded | None = None

    def work(self) -> None:
        """Decode them in this process."""
        self.decoded = decode.pictures(self.files, self.options, SMALL_PIXELS)

    def done(self) -> bool:
        if self.decoded is None and self.worker is not None:
            self.worker.look()
        return self.decoded is not None

    def result(self, timeout: float | None = None) -> R:
        while self.decoded is None and self.worker is not None:
            self.worker.receive()
        assert self.decoded is not None
        return self._finish(self.decoded)

    def cancel(self) -> bool:
        """Workers end with their pool."""
        return False


class _Worker:
    """A process, and the tasks that it has, in the order in which it will answer."""

    def __init__(self) -> None:
        package = str(Path(__file__).parents[3])
        path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        reading, writing = os.pipe()
        # Without a buffer: `poll` would know nothing of what it holds.
        self._answers = cast(BinaryIO, io.FileIO(reading))
        try:
            # -P: Python would put the script's own folder first, in which modules have names of their own choice.
            self._process = subprocess.Popen(
                [sys.executable, "-P", worker.__file__, str(writing)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,  # whoever prints when Python starts shall not be taken for an answer
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path},
                pass_fds=(writing,),
            )
        except OSError:
            self._answers.close()
            raise
        finally:
            os.close(writing)
        self._requests = cast(BinaryIO, self._process.stdin)
        self._room = min(map(_widened, (self._requests, self._answers)))
        self._tasks: deque[Task[Any]] = deque()
        self._ready = self.gone = False
        self._poll = select.poll()
        self._poll.register(self._answers, select.POLLIN)

    def take(self, task: Task[Any]) -> bool:
        """Send a task's pictures, unless the worker has enough to do."""
        self.look()
        # What is sent and not answered fits into the pipe, or each could wait for the other to read.
        sent = sum(len(data) for one in (*self._tasks, task) for data in one.files)
        if self.gone or not self._ready or (self._tasks and (len(self._tasks) == _AHEAD or sent > self._room // 2)):
            return False
        self._tasks.append(task)
        task.worker = self
        request = {"options": task.options.form, "most": SMALL_PIXELS, "lengths": [len(data) for data in task.files]}
        try:
            worker.send(self._requests, request, *task.files)
        except OSError:
            self._give_up()
        return True

    def look(self) -> None:
        """Take what answers there are."""
        while (self._tasks or not self._ready) and not self.gone and self._poll.poll(0):
            self.receive()

    def receive(self) -> None:
        """Wait for an answer. The first says that the worker is ready."""
        try:
            answer = worker.receive(self._answers)
            if self._ready:
                outcomes = [_outcome(*found) for found in answer["outcomes"]]
                good = sum(outcome.reason is None for outcome in outcomes)
                shape = (good, *limits.item_shape(self._tasks[0].options))
                rows = np.frombuffer(worker.exactly(self._answers, math.prod(shape)), np.uint8).reshape(shape)
                self._tasks.popleft().decoded = rows, outcomes
            self._ready = True
        except (OSError, EOFError):
            self._give_up()

    def _give_up(self) -> None:
        """The process is gone: do here what it had to do."""
        self.gone = True
        while self._tasks:
            self._tasks.popleft().work()

    def end(self) -> None:
        """Whatever it is doing."""
        self._process.kill()
        with contextlib.suppress(BrokenPipeError), self._process, self._answers:  # closes the pipes and waits
            pass


def _outcome(reason: str | None, header: list[Any] | None) -> decode.Outcome:
    """From JSON, which knows lists only."""
    return decode.Outcome(reason, decode.Header(tuple(header[0]), header[1]) if header else None)


def _widened(stream: BinaryIO) -> int:
    """The bytes that a pipe takes at once: as many as a task's pictures have, if the system lets us."""
    if sys.platform != "linux":
        return 2**12  # what every system has
    import fcntl

    with contextlib.suppress(OSError):  # more than a user may have
        fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, _PIPE)
    return fcntl.fcntl(stream, fcntl.F_GETPIPE_SZ)
