"""The errors of rkt: what its users read, without a traceback."""

from __future__ import annotations


class RktError(Exception):
    """A failure that the user can read.

    `hint` says what to do about it. `exit_code` is what the command exits with; 254 is what
    rkt has always used for its own failures, apart from those of the app.
    """

    exit_code = 254

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def one_line(error: BaseException) -> str:
    """What happened, for another process to show: the message, that of an OSError as `path: reason`."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__
