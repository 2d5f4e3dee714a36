"""A socket under deadlines: nothing read from a peer can keep us waiting for ever or fill our memory.

A timeout of the socket bounds each read alone, so a peer that sends one byte just in time is never late.
Here every read is under four limits: silence, the phase's deadline, bytes of the headers, bytes a second.
"""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING

from linux.named_tuple import NamedTuple

if TYPE_CHECKING:
    import socket

    from _typeshed import WriteableBuffer

# A transfer that brings less than this over the whole window is as good as dead.
SLOWEST = 1024  # bytes a second
WINDOW = 20.0  # seconds

HEADER_BYTES = 64 * 1024
HEADER_COUNT = 100  # http.client's own limit, stated here because it is our rule too


class Deadlines(NamedTuple):
    """Seconds: for one connection, for the answer's headers, of silence, and for everything together."""

    connect: float
    headers: float
    idle: float
    total: float


DOCUMENT = Deadlines(connect=8.0, headers=10.0, idle=10.0, total=20.0)
DOWNLOAD = Deadlines(connect=10.0, headers=15.0, idle=15.0, total=24 * 3600.0)


class LateError(TimeoutError):
    """A limit of this module was passed; its text says which."""


class SpoiltError(OSError):
    """The peer sent more header bytes than allowed."""


class DeadlineReader(io.RawIOBase):
    """The reading side of a socket, for http.client's parser (through `makefile`)."""

    def __init__(self, sock: socket.socket, idle: float) -> None:
        self._socket = sock
        self._idle = idle
        self._until = float("inf")
        self._what = ""
        self._budget: int | None = None
        self._window_start = 0.0  # 0: the rate is not watched
        self._window_bytes = 0
        self.received = 0

    def headers_until(self, deadline: float) -> None:
        """Read headers now: at most HEADER_BYTES of them, all before the monotonic time `deadline`."""
        self._until, self._what, self._budget = deadline, "sent no complete headers in time", HEADER_BYTES
        self._window_start = 0.0

    def body_until(self, deadline: float) -> None:
        self._until, self._what, self._budget = deadline, "did not finish in time", None
        self._window_start, self._window_bytes = time.monotonic(), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        if self._budget is not None and self._budget <= 0:
            raise SpoiltError(f"sent more than {HEADER_BYTES} bytes of headers")
        now = time.monotonic()
        left = self._until - now
        if left <= 0:
            raise LateError(self._what)
        self._socket.settimeout(min(left, self._idle))
        try:
            count = self._socket.recv_into(buffer)
        except TimeoutError:
            raise LateError(self._what if left < self._idle else f"was silent for {self._idle:g} s") from None
        self.received += count
        if self._budget is not None:
            self._budget -= count
        if self._window_start:
            self._watch_rate(count)
        return count

    def _watch_rate(self, count: int) -> None:
        self._window_bytes += count
        now = time.monotonic()
        span = now - self._window_start
        if span >= WINDOW and count:
            if self._window_bytes < SLOWEST * span:
                raise LateError(f"sent less than {SLOWEST} bytes a second for {span:.0f} s")
            self._window_start, self._window_bytes = now, 0


class Adapter:
    """What http.client.HTTPResponse needs of a socket: one file to read from."""

    def __init__(self, reader: DeadlineReader) -> None:
        self._file = io.BufferedReader(reader, 64 * 1024)

    def makefile(self, *_args: object, **_kwargs: object) -> io.BufferedReader[DeadlineReader]:
        return self._file
