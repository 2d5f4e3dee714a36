"""As much of HTTP/1.1 (RFC 9112) as the metadata service speaks: small requests, whole answers.

Everything that a pod sends is bounded: the head, the body, and the time that it takes.
"""

from __future__ import annotations

import asyncio
import re

from linux.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import StreamReader

HEAD_LIMIT = 16 * 1024
JSON = "application/json"
TEXT = "text/plain; charset=us-ascii"

_LINE = re.compile(rb"([A-Z]{1,16}) (/[!-~]{0,8191}) HTTP/1\.([01])\r\n")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*\r\n")
_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    411: "Length Required",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
}


class Reply(NamedTuple):
    """An answer: status, type, body."""

    status: int
    content_type: str
    body: bytes = b""

    def encode(self, *, keep: bool) -> bytes:
        head = (
            f"HTTP/1.1 {self.status} {_REASONS[self.status]}\r\n"
            f"Content-Type: {self.content_type}\r\n"
            f"Content-Length: {len(self.body)}\r\n"
            "Cache-Control: no-store\r\n"
            f"Connection: {'keep-alive' if keep else 'close'}\r\n\r\n"
        )
        return head.encode() + self.body


def refusal(status: int, text: str) -> Reply:
    return Reply(status, TEXT, text.encode() + b"\n")


class BadRequest(Exception):
    """A request that is not answered but with `reply`, after which the connection ends."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.reply = refusal(status, text)


class Request(NamedTuple):
    """A request. `path` has no query, `headers` are in lower case, `keep` says that more may follow."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    keep: bool


class Times(NamedTuple):
    """Seconds: for a request to begin, for its head, for its body."""

    idle: float = 30.0
    head: float = 5.0
    body: float = 10.0


async def read(
    reader: StreamReader, writer: asyncio.StreamWriter, limit: int, times: Times
) -> Request | None:
    """The next request, with a body of at most `limit` bytes; None when the peer is done or too slow."""
    head = await _read_head(reader, times)
    if not head:
        return None
    line = _LINE.match(head)
    if line is None:
        raise BadRequest(400, "malformed request")
    headers = _headers(head[line.end() : -2])
    length = _length(headers, limit)
    if headers.get("expect", "").lower() == "100-continue" and length:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = b""
    if length:
        try:
            body = await asyncio.wait_for(reader.readexactly(length), times.body)
        except asyncio.IncompleteReadError:
            return None
        except TimeoutError:
            raise BadRequest(408, "the body took too long") from None
    path, _, query = line[2].decode().partition("?")
    keep = line[3] == b"1" and headers.get("connection", "").lower() != "close"
    return Request(line[1].decode(), path, query, headers, body, keep)


async def _read_head(reader: StreamReader, times: Times) -> bytes:
    """Up to the empty line; nothing when the peer sends nothing."""
    try:
        first = await asyncio.wait_for(reader.readexactly(1), times.idle)
        return first + await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), times.head)
    except asyncio.IncompleteReadError:
        return b""
    except asyncio.LimitOverrunError:
        raise BadRequest(431, "the request's head is too long") from None
    except TimeoutError:
        return b""


def _headers(data: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    position = 0
    while position < len(data):
        field = _FIELD.match(data, position)
        if field is None:
            raise BadRequest(400, "malformed header")
        name = field[1].decode().lower()
        if name in found and name in {"content-length", "host", "transfer-encoding"}:
            raise BadRequest(400, f"{name} is there twice")
        found[name] = field[2].decode("latin-1")
        position = field.end()
    return found


def _length(headers: dict[str, str], limit: int) -> int:
    if "transfer-encoding" in headers:
        raise BadRequest(411, "a request must state its length")
    text = headers.get("content-length", "0")
    if not re.fullmatch(r"[0-9]{1,12}", text):
        raise BadRequest(400, "malformed content-length")
    if int(text) > limit:
        raise BadRequest(413, f"the body may have {limit} bytes")
    return int(text)


def form(body: bytes) -> dict[str, bytes]:
    """The fields of a form (application/x-www-form-urlencoded) as bytes; the first of a name counts."""
    from urllib.parse import unquote_to_bytes

    found: dict[str, bytes] = {}
    for pair in body.split(b"&")[:64]:
        name, _, value = pair.replace(b"+", b" ").partition(b"=")
        key = unquote_to_bytes(name).decode("utf-8", "replace")
        found.setdefault(key, unquote_to_bytes(value))
    return found
