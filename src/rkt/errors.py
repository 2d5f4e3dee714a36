"""The errors of rkt: what its users read, without a traceback."""

from __future__ import annotations

import errno

_HINTS = {
    errno.ENOSPC: "`rkt gc` and `rkt image gc` make room",
    errno.ENOSYS: "pods need Linux 5.12 or later: see `rkt doctor`",
}


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


def hint_for(error: BaseException) -> str:
    """What to do about an error in the life of a pod, "" if nobody knows."""
    known = _HINTS.get(error.errno or 0) if isinstance(error, OSError) else getattr(error, "hint", None)
    return known or ""
