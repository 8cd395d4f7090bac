"""Worker processes that decode small images, for which threads do not help: Pillow holds the GIL most of the time.

There is one for each core but one; the main process decodes too, whenever the workers' queues are full. They are
forked, and only on Linux: elsewhere, starting processes takes longer than they save.
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
from typing import TypeVar

import numpy as np

from raectl.cores import usable_cores
from raectl.data.images import decode
from raectl.data.images.parallel import done
from raectl.data.options import DataOptions

_MIN_IMAGES = 2000  # with fewer images, no workers are started
_QUEUED = 2  # tasks per worker, running or waiting
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PR_SET_PDEATHSIG = 1  # of sys/prctl.h
SMALL_PIXELS, SMALL_BYTES = 2**16, 2**18  # of the largest image that a worker decodes

Decoded = tuple[np.ndarray, list[decode.Outcome]]
R = TypeVar("R")


class WorkerPool:
    """A pool of worker processes, ended by its context manager. Before `start`, the main process does all the work."""

    def __init__(self) -> None:
        self._executor: ProcessPoolExecutor | None = None
        self._count, self._broken = 0, False
        self._waiting: list[Future[Decoded]] = []

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, *_: object) -> None:
        if self._executor:
            self._executor.shutdown(cancel_futures=True)

    def __bool__(self) -> bool:
        """Whether there are live workers."""
        return self._executor is not None and not self._broken

    def start(self, count: int) -> None:
        """Start the workers if there are enough images, and the system lets us; to be called before other threads."""
        if count < _MIN_IMAGES or sys.platform != "linux" or multiprocessing.current_process().daemon:
            return
        self._count = max(1, usable_cores() - 1)
        before = {*multiprocessing.active_children()}
        # No signal may reach a worker before it ignores Ctrl-C; `_prepare` takes them again.
        former = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            with warnings.catch_warnings():
                # Python warns of a fork beside threads, which may hold locks; a worker takes none of them.
                warnings.simplefilter("ignore", DeprecationWarning)
                context = multiprocessing.get_context("fork")
                executor = ProcessPoolExecutor(self._count, context, _prepare, (os.getpid(),))
                self._waiting.append(executor.submit(_decode, [], DataOptions(8, "crop", "white", channels=1)))
            self._executor = executor
        except OSError:  # no processes or semaphores are left: threads must do
            for process in {*multiprocessing.active_children()} - before:
                process.kill()
                process.join()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, former)

    def submit(self, files: Sequence[bytes], options: DataOptions, finish: Callable[[Decoded], R]) -> Future[R]:
        """The future of `finish(decode.pictures(files))`, for files of at most `SMALL_BYTES` and `SMALL_PIXELS` each.

        They are decoded in this process, at once, if the workers' queues are full or a worker has died.
        """
        self._waiting = [future for future in self._waiting if not future.done()]
        if self._executor and not self._broken and len(self._waiting) < _QUEUED * self._count:
            try:
                self._waiting.append(self._executor.submit(_decode, files, options))
                return _Task(self._waiting[-1], lambda: _decode(files, options), finish)
            except BrokenProcessPool:
                self._broken = True
        return done(finish(_decode(files, options)))


class _Task(Future[R]):
    """The future of `finish(decoded.result())`, with `again()` in the place of the worker's result if it has died."""

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
    """In a worker: ignore Ctrl-C, which the parent handles, end when the parent ends, and print no warnings."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent ended before prctl was called
        os._exit(1)
    warnings.simplefilter("ignore")


def _decode(files: Sequence[bytes], options: DataOptions) -> Decoded:
    return decode.pictures(files, options, SMALL_PIXELS)
