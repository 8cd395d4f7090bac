"""Progress that calls a function."""

from collections.abc import Callable

from raectl.progress import Progress


class Calls(Progress):
    """Calls a function of (description, done, total) at every update."""

    def __init__(self, call: Callable[[str, int, int], object]) -> None:
        self._call = call

    def update(self, description: str, done: int, total: int) -> None:
        self._call(description, done, total)
