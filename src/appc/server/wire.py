"""As much of HTTP/1.1 (RFC 9112) as a server of files needs, on one connection, under deadlines.

Nothing that a client sends is believed, waited for without end, or kept in memory without a bound.
"""

from __future__ import annotations

import http
import io
import os
import re
import time

from appc.http.stream import DeadlineReader, LateError, SpoiltError
from linux.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Mapping
    from typing import BinaryIO

HEADERS = 15.0  # seconds for a request to begin and for its headers to be complete
IDLE = 30.0  # seconds of silence in a body, and for a piece of an answer to be taken
WHOLE = 24 * 3600.0  # seconds for one body
_PIECE = 64 * 1024
_LINE = re.compile(rb"([A-Z]{1,16}) (/[!-~]{0,8191}) HTTP/1\.([01])\r\n")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*\r\n")
_LONGEST_LINE = 16 * 1024
_SINGLE = frozenset(("content-length", "host", "transfer-encoding", "authorization", "content-range"))
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?"
)


class BadRequest(Exception):
    """A request that is answered with `status` and nothing else, after which the connection ends."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Gone(Exception):
    """The client has ended the connection, or is too slow to be waited for."""


class Request(NamedTuple):
    """A request. `path` has no query and is not decoded; `headers` have names in lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: Body

    @property
    def host(self) -> str:
        """The Host header, host and port, checked; empty when there is none (HTTP/1.0)."""
        return self.headers.get("host", "")


class Connection:
    """One client. `requests` gives its requests; each is to be answered before the next."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._raw = DeadlineReader(sock, IDLE)
        self._file = io.BufferedReader(self._raw, _PIECE)
        self._keep = True

    def requests(self) -> Iterator[Request]:
        """Until the client has no more, or one ends the connection. BadRequest for what is no request."""
        while self._keep:
            request = self._next()
            if request is None:
                return
            yield request
            self._keep = self._keep and request.body.done

    def _next(self) -> Request | None:
        self._raw.headers_until(time.monotonic() + HEADERS)
        try:
            line = self._file.readline(_LONGEST_LINE)
            if not line:
                return None
            found = _LINE.fullmatch(line)
            if found is None:
                raise BadRequest(400, "malformed request")
            headers = self._headers()
        except SpoiltError:
            raise BadRequest(431, "the headers are too long") from None
        except (OSError, ValueError):
            raise Gone from None
        if found[3] == b"1" and "host" not in headers:
            raise BadRequest(400, "there is no host")
        if "host" in headers and not _HOST.fullmatch(headers["host"]):
            raise BadRequest(400, "malformed host")
        self._keep = found[3] == b"1" and headers.get("connection", "").lower() != "close"
        path, _, query = found[2].decode().partition("?")
        return Request(found[1].decode(), path, query, headers, Body(self, headers))

    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        for _ in range(101):
            line = self._file.readline(_LONGEST_LINE)
            if line == b"\r\n":
                return headers
            if not line.endswith(b"\n"):
                raise SpoiltError if line else Gone
            field = _FIELD.fullmatch(line)
            if field is None:
                raise BadRequest(400, "malformed header")
            name = field[1].decode().lower()
            if name in headers and name in _SINGLE:
                raise BadRequest(400, f"{name} is there twice")
            headers[name] = field[2].decode("latin-1")
        raise SpoiltError

    def reply(
        self,
        status: int,
        headers: Mapping[str, str],
        content: bytes = b"",
        *,
        file: BinaryIO | None = None,
        part: range | None = None,
        head_only: bool = False,
    ) -> None:
        """Send an answer: `content`, or the bytes `part` of `file`. Gone when the client does not take it."""
        size = len(content) if part is None else len(part)
        sent = {"Server": "acserver", "X-Content-Type-Options": "nosniff", **headers}
        if status not in {204, 304}:
            sent["Content-Length"] = str(size)
        sent["Connection"] = "keep-alive" if self._keep else "close"
        try:
            reason = http.HTTPStatus(status).phrase
            lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in sent.items())]
            head = "\r\n".join((*lines, "", "")).encode("latin-1")
            self._socket.settimeout(IDLE)
            self._socket.sendall(head + (b"" if head_only else content))
            if file is not None and part is not None and not head_only:
                self._send_file(file, part)
        except OSError:
            self._keep = False
            raise Gone from None

    def last(self) -> None:
        """The next answer ends the connection."""
        self._keep = False

    def _send_file(self, file: BinaryIO, part: range) -> None:
        """Piece by piece, so that a client is given up that takes less than a piece in IDLE seconds."""
        offset = part.start
        while offset < part.stop:
            data = os.pread(file.fileno(), min(_PIECE * 4, part.stop - offset), offset)
            if not data:
                raise Gone  # the file was cut short under us: the client sees that bytes are missing
            self._socket.settimeout(IDLE)
            self._socket.sendall(data)
            offset += len(data)

    def proceed(self) -> None:
        """Tell a client that waits for it to send its body."""
        self._socket.settimeout(IDLE)
        self._socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

    def read(self, count: int) -> bytes:
        """Up to `count` bytes of a body. Gone for a client that is late or away."""
        try:
            return self._file.read1(count)
        except OSError:
            raise Gone from None

    def line(self) -> bytes:
        """A line of a chunked body."""
        try:
            return self._file.readline(_LONGEST_LINE)
        except OSError:
            raise Gone from None

    def body_begins(self) -> None:
        self._raw.body_until(time.monotonic() + WHOLE)

    def close(self) -> None:
        """End the connection so that the client gets our answer, although it may still be sending."""
        try:
            self._socket.shutdown(1)  # SHUT_WR
            end = time.monotonic() + 2
            taken = 0
            while taken < 16 << 20 and time.monotonic() < end:
                self._socket.settimeout(1)
                data = self._socket.recv(_PIECE)
                if not data:
                    break
                taken += len(data)
        except (OSError, LateError):
            pass
        self._file.close()
        self._socket.close()


class Body:
    """What a request carries. `length` is None when the client does not say (chunked)."""

    def __init__(self, connection: Connection, headers: Mapping[str, str]) -> None:
        self._connection = connection
        self._waits = headers.get("expect", "").lower() == "100-continue"
        coding = headers.get("transfer-encoding")
        text = headers.get("content-length")
        self.length: int | None = 0
        if coding is not None:
            if text is not None or coding.lower() != "chunked":
                raise BadRequest(400, "malformed transfer-encoding")
            self.length = None
        elif text is not None:
            if not re.fullmatch(r"[0-9]{1,18}", text):
                raise BadRequest(400, "malformed content-length")
            self.length = int(text)
        #: Whether all of it was read: only then is what follows on the connection the next request.
        self.done = self.length == 0

    def chunks(self, limit: int) -> Iterator[bytes]:
        """The body in pieces. BadRequest (413) beyond `limit` bytes, Gone when it ends early or stalls."""
        if self.done:
            return
        if self.length is not None and self.length > limit:
            raise BadRequest(413, f"the body may have {limit} bytes")
        if self._waits:
            try:
                self._connection.proceed()
            except OSError:
                raise Gone from None
        self._connection.body_begins()
        yield from self._sized(self.length) if self.length is not None else self._chunked(limit)
        self.done = True

    def _sized(self, left: int) -> Iterator[bytes]:
        while left:
            data = self._connection.read(min(left, _PIECE))
            if not data:
                raise Gone
            left -= len(data)
            yield data

    def _chunked(self, limit: int) -> Iterator[bytes]:
        total = 0
        while True:
            found = re.fullmatch(
                rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]{0,1024})?\r\n", self._connection.line()
            )
            if found is None:
                raise BadRequest(400, "malformed chunk")
            size = int(found[1], 16)
            if size == 0:
                break
            total += size
            if total > limit:
                raise BadRequest(413, f"the body may have {limit} bytes")
            yield from self._sized(size)
            if self._connection.line() != b"\r\n":
                raise BadRequest(400, "malformed chunk")
        for _ in range(20):  # trailers, which mean nothing to us
            if self._connection.line() == b"\r\n":
                return
        raise Gone

    def read(self, limit: int) -> bytes:
        """All of it; at most `limit` bytes."""
        return b"".join(self.chunks(limit))
