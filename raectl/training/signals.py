"""SIGINT and SIGTERM as a note to the loop, which saves at the next step; a second one is immediate."""

import signal
import threading
from types import FrameType
from typing import Any


class Signals:
    """While the block runs, the first signal sets `received`; the second one acts as it would have outside."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._former: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handler
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._former[signum] = signal.signal(signum, self._receive)
        return self

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        self.received = signum
        self._restore()

    def _restore(self) -> None:
        while self._former:
            signum, handler = self._former.popitem()
            signal.signal(signum, handler)

    def __exit__(self, *_: object) -> None:
        self._restore()
