"""Run tasks on all cores; results come in the tasks' order, a bounded number ahead of the consumer."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from raectl.cores import usable_cores

T = TypeVar("T")
R = TypeVar("R")


def in_threads(function: Callable[[T], R], tasks: Iterable[T], threads: int | None = None) -> Iterator[R]:
    """The result of each task, in the tasks' order; for work that releases the GIL, as Pillow's and hashlib's does.

    At most 2 x `usable_cores()` results wait at a time. (`Executor.map` would hold all results of a slow consumer.)
    """
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads or usable_cores()) as pool:
        try:
            for task in tasks:
                waiting.append(pool.submit(function, task))
                while waiting and (waiting[0].done() or len(waiting) > 2 * usable_cores()):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
