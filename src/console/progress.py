"""Progress of a long step: on standard error, only on a terminal, at most ten redraws a second.

Off a terminal nothing is written. RKT_NO_PROGRESS on a terminal gives one line at the end of a step.
"""

from __future__ import annotations

import os
import time

from console import terminal
from console.formats.humane import duration, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self, TextIO

_REDRAW = 0.1  # seconds
_ERASE = "\r\x1b[K"


class Progress:
    """A context manager around one step. `total` is in bytes; None when it is not known."""

    def __init__(self, stream: TextIO, label: str, total: int | None = None) -> None:
        self.label = label
        self.total = total
        self.done = 0
        self._stream = stream
        self._live = terminal.is_terminal(stream)
        self._quiet = bool(os.environ.get("RKT_NO_PROGRESS")) or os.environ.get("TERM", "dumb") == "dumb"
        self._started = self._drawn = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._write(("" if self._quiet else _ERASE) + ("" if error else self.text() + "\n"))

    def advance(self, count: int) -> None:
        """Tell that `count` more bytes are done."""
        self.done += count
        now = time.monotonic()
        if self._live and not self._quiet and now - self._drawn >= _REDRAW:
            self._drawn = now
            width = _columns(self._stream)
            self._write(_ERASE + self.text()[: width - 1])

    def text(self) -> str:
        """`label  12MiB of 40MiB  30%  3.1MiB/s  9s left`, with what is known of these."""
        elapsed = max(time.monotonic() - self._started, 0.001)
        rate = self.done / elapsed
        parts = [terminal.plain(self.label), size(self.done)]
        if self.total:
            parts[1] += f" of {size(self.total)}"
            parts.append(f"{100 * self.done // self.total}%")
        parts.append(f"{size(rate)}/s")
        if self.total and rate and self.done < self.total:
            parts.append(f"{duration((self.total - self.done) / rate)} left")
        return "  ".join(parts)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            self._live = False  # the terminal is gone; the work goes on


def _columns(stream: TextIO) -> int:
    try:
        return max(os.get_terminal_size(stream.fileno()).columns, 20)
    except (OSError, ValueError):
        return 80
