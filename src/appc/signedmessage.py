"""OpenPGP messages that carry what they sign, as `gpg --sign` writes them (RFC 4880, section 11.3).

A message is taken apart into its content and a detached signature over it, which `appc.signature` can check.
Nothing here verifies anything.
"""

from __future__ import annotations

import zlib

from appc import openpgp, signature
from appc.openpgp import MalformedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from appc.openpgp import Signature

#: Bytes of a message, and of what is in a compressed one.
LIMIT = 1 << 20
_SIGNATURE, _ONE_PASS, _COMPRESSED, _LITERAL = 2, 4, 8, 11
_BINARY = b"b"
# Compression algorithms (section 9.3) and the windows that zlib knows them by.
_PLAIN, _ZIP, _ZLIB = 0, 1, 2
_WINDOWS = {_ZIP: -zlib.MAX_WBITS, _ZLIB: zlib.MAX_WBITS}


def read(data: bytes) -> tuple[Signature, bytes]:
    """The one signature of a message and the content that it is over. MalformedError, BadSignature.

    Only a single signature over binary content is taken: there is but one thing that it can mean.
    """
    if len(data) > LIMIT:
        raise MalformedError(f"the signed message has {len(data)} bytes, the limit is {LIMIT}")
    packets = _packets(data if data[:1] >= b"\x80" else openpgp.dearmored(data, b"MESSAGE", "a message"))
    if len(packets) == 1 and packets[0][0] == _COMPRESSED:
        packets = _packets(_inflated(packets[0][1]))
    if [tag for tag, _, _ in packets] != [_ONE_PASS, _LITERAL, _SIGNATURE]:
        raise MalformedError("the message does not consist of one content and one signature")
    return signature.read(packets[2][2]), _content(packets[1][1])


def _content(literal: bytes) -> bytes:
    """What is in a literal data packet: format, name and date stand in front of it (section 5.9)."""
    if literal[:1] != _BINARY or len(literal) < 2 or len(literal) < 6 + literal[1]:
        raise MalformedError("the content of the message is not binary data")
    return literal[6 + literal[1] :]


def _inflated(body: bytes) -> bytes:
    algorithm, data = body[:1], body[1:]
    if algorithm == bytes((_PLAIN,)):
        return data
    window = _WINDOWS.get(algorithm[0]) if algorithm else None
    if window is None:
        raise MalformedError("the message is compressed in a way that is not supported")
    inflater = zlib.decompressobj(window)
    try:
        found = inflater.decompress(data, LIMIT + 1)
    except zlib.error:
        raise MalformedError("the compressed message is damaged") from None
    if len(found) > LIMIT or not inflater.eof or inflater.unused_data:
        raise MalformedError("the compressed message is too long, ends early, or has something behind it")
    return found


def _packets(data: bytes) -> list[tuple[int, bytes, bytes]]:
    """Tag, body and whole bytes of each packet; those of content may have lengths in parts or none at all."""
    found: list[tuple[int, bytes, bytes]] = []
    position = 0
    while position < len(data):
        start, first = position, data[position]
        if not first & 0x80:
            raise MalformedError("the OpenPGP data is malformed")
        if first & 0x40:
            tag = first & 0x3F
            body, position = _in_parts(data, position + 1)
        else:
            tag = (first >> 2) & 0x0F
            body, position = _old(data, position + 1, first & 3)
        found.append((tag, body, data[start:position]))
    return found


def _old(data: bytes, position: int, kind: int) -> tuple[bytes, int]:
    """A body whose length is as in section 4.2.1; of kind 3 it goes to the end."""
    if kind == 3:
        return data[position:], len(data)
    size = (1, 2, 4)[kind]
    length = int.from_bytes(data[position : position + size], "big")
    return _taken(data, position + size, length)


def _in_parts(data: bytes, position: int) -> tuple[bytes, int]:
    """A body whose length is as in section 4.2.2, perhaps of several parts."""
    parts: list[bytes] = []
    while True:
        head = data[position : position + 5].ljust(5, b"\0")
        partial = 224 <= head[0] < 255
        if head[0] < 192:
            size, length = 1, head[0]
        elif head[0] < 224:
            size, length = 2, ((head[0] - 192) << 8) + head[1] + 192
        elif partial:
            size, length = 1, 1 << (head[0] & 0x1F)
        else:
            size, length = 5, int.from_bytes(head[1:5], "big")
        body, position = _taken(data, position + size, length)
        parts.append(body)
        if not partial:
            return b"".join(parts), position


def _taken(data: bytes, start: int, length: int) -> tuple[bytes, int]:
    if start + length > len(data):
        raise MalformedError("the OpenPGP data ends in the middle of a packet")
    return data[start : start + length], start + length
