"""Decoding on all cores: large pictures by threads of this process, many small ones by helper processes too.

Pillow lets go of Python's lock while it decodes, but an image of 64x64 pixels takes so little of that that two threads
are no faster than one. A helper takes 0.2 s to start, so only thousands of small images are worth it.
"""

import contextlib
import math
import os
import queue
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, cast

import numpy as np

from raectl.data import convert, helper, rules
from raectl.data.options import DataOptions
from raectl.data.parallel import workers

_WORTH = 2000  # pictures from which on helpers are started
_PIPE = 2**20  # bytes
_SMALL_PIXELS, _SMALL_BYTES = 2**16, 2**18  # what a helper is sent at most, a picture


class Crew:
    """Helper processes. Use as a context: they end with it; without any, everything is done by this process."""

    def __init__(self) -> None:
        self._all: list[subprocess.Popen[bytes]] = []
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()

    def __enter__(self) -> "Crew":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._all:
            process.kill()
            with contextlib.suppress(BrokenPipeError), process:  # closes the pipes and waits
                pass

    def start(self, count: int) -> None:
        """Have helpers ready for so many pictures; to be called early, because they take a moment to start."""
        if count < _WORTH or not sys.executable:
            return
        package = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        # -P: Python would put the script's own folder first, in which modules have names of their own choice.
        command = [sys.executable, "-P", helper.__file__]
        for _ in range(workers()):
            with contextlib.suppress(OSError):  # it goes without
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env={**os.environ, "PYTHONPATH": path},
                )
                _widen(process)
                self._all.append(process)
                self._idle.put(process)

    def is_small(self, pixels: int, size: int) -> bool:
        """Whether a helper may decode a picture of so many pixels in a file of so many bytes."""
        return bool(self._all) and pixels <= _SMALL_PIXELS and size <= _SMALL_BYTES

    def pictures(self, files: Sequence[bytes], options: DataOptions) -> tuple[np.ndarray, list[str | None]]:
        """`convert.pictures` of small ones, by a helper if one is idle."""
        try:
            process = self._idle.get_nowait()
        except queue.Empty:
            return convert.pictures(files, options)
        try:
            requests, answers = cast(BinaryIO, process.stdin), cast(BinaryIO, process.stdout)
            helper.send(requests, {"options": options.form, "lengths": [len(data) for data in files]}, *files)
            reasons = helper.receive(answers)["reasons"]
            shape = (reasons.count(None), *rules.item_shape(options))
            rows = np.frombuffer(helper.exactly(answers, math.prod(shape)), np.uint8).reshape(shape)
        except (OSError, EOFError):  # it is gone, and not put back
            return convert.pictures(files, options)
        self._idle.put(process)
        return rows, reasons


def _widen(process: "subprocess.Popen[bytes]") -> None:
    """Let a task's pictures through the pipes in one piece; every 64 KiB would wake both sides up."""
    if sys.platform == "linux":
        import fcntl

        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):  # more than a user may have
                fcntl.fcntl(cast(BinaryIO, stream), fcntl.F_SETPIPE_SZ, _PIPE)
