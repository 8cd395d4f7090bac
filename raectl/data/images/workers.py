"""Worker processes that decode small images: Pillow holds Python's lock for most of the time that such an image takes.

There is one for each core but one: that is for this process, which decodes as well, whenever all workers have enough to
do. They are forked, and so only made on Linux: elsewhere a new process takes longer to start than they save.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import TypeVar

import numpy as np

from raectl.data.images import decode
from raectl.data.images.parallel import workers
from raectl.data.options import DataOptions

_WORTH = 2000  # pictures from which on workers are started
_AHEAD = 2  # tasks that a worker has at most
_PR_SET_PDEATHSIG = 1  # of sys/prctl.h
SMALL_PIXELS, SMALL_BYTES = 2**16, 2**18  # the largest picture that a worker is given

Decoded = tuple[np.ndarray, list[decode.Outcome]]
R = TypeVar("R")


class WorkerPool:
    """Worker processes. Use as a context manager, which ends them; without any, this process does all the work."""

    def __init__(self) -> None:
        self._executor: ProcessPoolExecutor | None = None
        self._count, self._broken = 0, False
        self._waiting: list[Future[Decoded]] = []

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._executor:
            self._executor.shutdown(cancel_futures=True)

    def __bool__(self) -> bool:
        """Whether there are workers."""
        return self._executor is not None and not self._broken

    def start(self, count: int) -> None:
        """Have workers ready for so many pictures; best called before other threads are started."""
        if count < _WORTH or sys.platform != "linux":
            return
        self._count = max(1, workers() - 1)
        context = multiprocessing.get_context("fork")
        self._executor = ProcessPoolExecutor(self._count, context, _prepare, (os.getpid(),))
        with (
            warnings.catch_warnings()
        ):  # of forking beside threads: a worker only decodes, and takes none of their locks
            warnings.simplefilter("ignore", DeprecationWarning)
            self._waiting.append(self._executor.submit(_decode, [], DataOptions(8, "crop", "white", 1)))

    def submit(self, files: Sequence[bytes], options: DataOptions, finish: Callable[[Decoded], R]) -> Future[R]:
        """`decode.pictures` of files of at most `SMALL_BYTES` and `SMALL_PIXELS` each: the future of `finish` of it.

        If all workers have enough to do, or one died, they are decoded here and now.
        """
        self._waiting = [future for future in self._waiting if not future.done()]
        if self._executor and not self._broken and len(self._waiting) < _AHEAD * self._count:
            try:
                self._waiting.append(self._executor.submit(_decode, files, options))
                return _Task(self._waiting[-1], lambda: _decode(files, options), finish)
            except BrokenProcessPool:
                self._broken = True
        done: Future[R] = Future()
        done.set_result(finish(_decode(files, options)))
        return done


class _Task(Future[R]):
    """The future of what is made of decoded pictures, which are decoded here if the worker died.

    Arguments:
        decoded: what a worker decodes.
        again: decodes it in this process.
        finish: makes the result.
    """

    def __init__(self, decoded: Future[Decoded], again: Callable[[], Decoded], finish: Callable[[Decoded], R]) -> None:
        super().__init__()
        self._decoded, self._again, self._finish = decoded, again, finish

    def done(self) -> bool:
        return self._decoded.done()

    def result(self, timeout: float | None = None) -> R:
        try:
            decoded = self._decoded.result(timeout)
        except BrokenProcessPool:
            decoded = self._again()
        return self._finish(decoded)

    def cancel(self) -> bool:
        return self._decoded.cancel()


def _prepare(parent: int) -> None:
    """In a worker: leave Ctrl-C to the parent, end when that does, and be silent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before it could be watched
        os._exit(1)
    warnings.simplefilter("ignore")


def _decode(files: Sequence[bytes], options: DataOptions) -> Decoded:
    return decode.pictures(files, options, SMALL_PIXELS)
