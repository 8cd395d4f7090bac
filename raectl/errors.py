"""Errors with a message (what failed, and where) and a hint (what to do next).

Every expected error is a `RaectlError`; the command line prints its `message` and `hint` and exits with its
`exit_code`. Any other exception that reaches the user is a bug.
"""

import shlex


def command(*words: object) -> str:
    """A shell command for a hint, with words quoted where necessary.

    Example:
        >>> command("raectl", "info", "my ckpt")
        "raectl info 'my ckpt'"
    """
    return shlex.join(map(str, words))


class RaectlError(Exception):
    """An operation failed because of a file, a directory, the data or numerical problems (exit code 1).

    Arguments:
        message: what failed, and where.
        hint: what to do next, if anything.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(RaectlError):
    """An option or argument is wrong (exit code 2)."""

    exit_code = 2


class Interrupted(RaectlError):
    """A signal ended the run after its state was saved (exit code 130 for SIGINT, 143 for SIGTERM)."""

    def __init__(self, message: str, hint: str | None = None, *, signum: int) -> None:
        super().__init__(message, hint)
        self.exit_code = 128 + signum
