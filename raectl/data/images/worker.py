"""A process that decodes small pictures for another one: Pillow holds Python's lock for most of what they take.

    python helper.py FD

Requests come on stdin, answers go to the file descriptor FD, since anybody may print. Both are frames: 4 bytes of
length, a JSON object, and the bytes that it announces. `{}` says that the process is ready. `{"options", "most",
"lengths"}` and image files are answered by `{"outcomes"}` and the rows of the good ones. The process ends when its
stdin does, so it never outlives whoever started it.
"""

import io
import json
import signal
import struct
import sys
import warnings
from typing import Any, BinaryIO, cast


def send(stream: BinaryIO, message: dict[str, Any], *payload: Any) -> None:
    """Write a frame; `payload` is anything of bytes."""
    head = json.dumps(message).encode()
    stream.write(struct.pack(">I", len(head)) + head)
    for part in payload:
        stream.write(part)
    stream.flush()


def receive(stream: BinaryIO) -> dict[str, Any]:
    """The JSON object of the next frame.

    Raises:
        EOFError: the other side has gone.
    """
    (length,) = struct.unpack(">I", exactly(stream, 4))
    message: dict[str, Any] = json.loads(exactly(stream, length))
    return message


def exactly(stream: BinaryIO, count: int) -> bytearray:
    """So many bytes of a frame.

    Raises:
        EOFError: there are fewer.
    """
    data = bytearray(count)
    view, got = memoryview(data), 0
    while got < count:
        read = cast(io.FileIO, stream).readinto(view[got:])
        if not read:
            raise EOFError
        got += read
    return data


def main() -> None:
    """Answer requests until there are no more."""
    from raectl.data import DataOptions
    from raectl.data.images import decode  # not before it is sure to be run as a program

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started it
    warnings.simplefilter("ignore")
    answers = open(int(sys.argv[1]), "wb")  # noqa: SIM115 (for as long as the process lives)
    try:
        send(answers, {})
        while True:
            request = receive(sys.stdin.buffer)
            files = [bytes(exactly(sys.stdin.buffer, length)) for length in request["lengths"]]
            done = [*decode.squares(files, DataOptions(**request["options"]), request["most"])]
            rows = [image.tobytes() for image, _ in done if image is not None]
            send(answers, {"outcomes": [outcome for _, outcome in done]}, *rows)
    except (EOFError, BrokenPipeError):
        return


if __name__ == "__main__":
    main()
