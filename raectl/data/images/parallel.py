"""Run tasks on all cores; results come in the tasks' order, a bounded number ahead of the consumer."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from raectl.cores import usable_cores

T = TypeVar("T")
R = TypeVar("R")


def done(result: R) -> Future[R]:
    """A future that is done."""
    future: Future[R] = Future()
    future.set_result(result)
    return future


def in_order(submit: Callable[[T], Future[R]], tasks: Iterable[T]) -> Iterator[R]:
    """The result of each task, in the tasks' order.

    At most 2 x `usable_cores()` futures wait at a time. (`Executor.map` would hold all results of a slow consumer.)
    """
    waiting: deque[Future[R]] = deque()
    try:
        for task in tasks:
            waiting.append(submit(task))
            while waiting and (waiting[0].done() or len(waiting) > 2 * usable_cores()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def in_threads(function: Callable[[T], R], tasks: Sequence[T], threads: int | None = None) -> Iterator[R]:
    """`in_order` in threads, for work that releases the GIL, as Pillow's and hashlib's does."""
    with ThreadPoolExecutor(threads or usable_cores()) as pool:
        yield from in_order(lambda task: pool.submit(function, task), tasks)
