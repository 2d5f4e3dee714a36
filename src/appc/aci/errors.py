"""What can be wrong with an image archive."""

from __future__ import annotations

from appc.errors import AppcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: Problems that one error lists: a hostile archive must not make a megabyte of message.
MAX_PROBLEMS = 20


class InvalidArchive(AppcError, ValueError):
    """An archive that breaks the format or the image layout; `problems` has every reason that was found."""

    def __init__(self, problems: str | Iterable[str], *, hint: str | None = None) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        shown = self.problems[:MAX_PROBLEMS]
        if len(self.problems) > len(shown):
            shown = (*shown, f"and {len(self.problems) - len(shown)} more")
        super().__init__("invalid image archive: " + "; ".join(shown), hint=hint)


class LimitExceeded(InvalidArchive):
    """An archive that would take more of the host than the limits allow (size, entries, memory, ratio)."""

    def __init__(self, problems: str | Iterable[str], *, hint: str | None = None) -> None:
        raising = "if it is to be trusted, raise the limit: `images.d` for rkt, --limit for actool"
        super().__init__(problems, hint=hint or raising)


class UnknownFormat(InvalidArchive):
    """A file that starts like no archive and no compression this project knows."""


def shown(name: bytes) -> str:
    """A name from an archive as text for a message: at most 200 characters, nothing a terminal obeys."""
    text = name.decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text[:200])
    return text + ("…" if len(name) > 200 else "")
