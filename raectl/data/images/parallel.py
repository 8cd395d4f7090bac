"""Work on all cores, in order, with a bounded number of results waiting."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Promise(Protocol[R_co]):
    """A result that is being worked at. A `concurrent.futures.Future` is one."""

    def done(self) -> bool:
        """Whether `result` will not wait."""

    def result(self) -> R_co:
        """The result, as soon as it is there."""

    def cancel(self) -> object:
        """Do not begin with it, if that is still possible."""


def workers() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def done(result: R) -> Promise[R]:
    """A promise that is kept."""
    future: Future[R] = Future()
    future.set_result(result)
    return future


def in_order(submit: Callable[[T], Promise[R]], tasks: Iterable[T]) -> Iterator[R]:
    """The result of each task, in the tasks' order; what `submit` begins runs a little ahead of whoever takes them.

    A plain `Executor.map` would run ahead without bound, and hold all data in memory if the disk is slower than the
    decoder.
    """
    waiting: deque[Promise[R]] = deque()
    try:
        for task in tasks:
            waiting.append(submit(task))
            while waiting and (waiting[0].done() or len(waiting) > 2 * workers()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for promise in waiting:
            promise.cancel()


def in_threads(function: Callable[[T], R], tasks: Sequence[T], threads: int | None = None) -> Iterator[R]:
    """`in_order`, by threads: they suffice where the work is Pillow's or hashlib's, which let go of Python's lock."""
    with ThreadPoolExecutor(threads or workers()) as pool:
        yield from in_order(lambda task: pool.submit(function, task), tasks)
