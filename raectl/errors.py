"""The errors that a user can meet: one sentence of what and where, one of what to do next.

Every error that raectl raises on purpose is a `RaectlError`; the command line prints its `message` and `hint`
and exits with its `exit_code`. Anything else that surfaces is a defect of raectl.
"""

import shlex


def command(*words: object) -> str:
    """A command to type, as a hint gives it: words with spaces or other odd characters are quoted.

    Example:
        >>> command("raectl", "info", "my ckpt")
        "raectl info 'my ckpt'"
    """
    return shlex.join(map(str, words))


class RaectlError(Exception):
    """Something that the run met failed: a file, a directory, the data, the numbers (exit code 1).

    Arguments:
        message: what failed, and where.
        hint: what to do next, if there is something to be done.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(RaectlError):
    """An option or argument is wrong, whatever the files hold (exit code 2)."""

    exit_code = 2


class Interrupted(RaectlError):
    """A signal ended the run after its state was saved (exit code 130 for SIGINT, 143 for SIGTERM)."""

    def __init__(self, message: str, hint: str | None = None, *, signum: int) -> None:
        super().__init__(message, hint)
        self.exit_code = 128 + signum
