"""The errors of the App Container library."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class AppcError(Exception):
    """A failure that the user can read.

    `hint` says what to do about it. What a command exits with is the command's affair: actool 1, rkt 254.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class InvalidManifest(AppcError, ValueError):
    """A manifest that breaks the specification; `problems` has every reason, each behind its JSON path."""

    def __init__(self, what: str, problems: Iterable[str], *, hint: str | None = None) -> None:
        self.what = what
        self.problems = tuple(problems)
        super().__init__(f"invalid {what}: " + "; ".join(self.problems), hint=hint)


class UnsupportedPlatform(AppcError, ValueError):
    """An operating system and architecture for which appc or Go has no name."""
