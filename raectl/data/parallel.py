"""Work on all cores, in order, with a bounded number of results waiting."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def workers() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(function: Callable[[T], R], tasks: Sequence[T], threads: int | None = None) -> Iterator[R]:
    """`function` of each task, in the tasks' order, computed by threads a little ahead of whoever takes the results.

    Threads suffice because Pillow and hashlib let go of the interpreter's lock. A plain `Executor.map` would run ahead
    without bound, and hold all data in memory if the disk is slower than the decoder.
    """
    with ThreadPoolExecutor(threads or workers()) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for task in tasks:
                waiting.append(pool.submit(function, task))
                if len(waiting) > 2 * workers():
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
