"""Netlink's wire format: message headers, attributes, and how to build and read them.

Source: include/uapi/linux/netlink.h. Integers are in host order unless a name says `be`.
"""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from struct import Struct
from struct import error as StructError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# Flags of a request (`NLM_F_*`).
REQUEST = 0x001
ACK = 0x004
ECHO = 0x008
DUMP_INTERRUPTED = 0x010
DUMP = 0x300
REPLACE = 0x100
EXCLUSIVE = 0x200
CREATE = 0x400
APPEND = 0x800
# Flags of an acknowledgement.
CAPPED = 0x100
ACK_TLVS = 0x200

# Message types below every family's own.
ERROR = 2
DONE = 3
FIRST_OF_FAMILY = 16

NESTED = 0x8000
KIND_MASK = 0x3FFF

_HEADER = Struct("=IHHII")
_ATTRIBUTE = Struct("=HH")
_U8 = Struct("=B")
_U16 = Struct("=H")
_U32 = Struct("=I")
_U64 = Struct("=Q")
_I32 = Struct("=i")
_BE16 = Struct("!H")
_BE32 = Struct("!I")
_BE64 = Struct("!Q")
_LONGEST = 0xFFFF


class Request:
    """One message for the kernel, without the sequence number that a batch gives it.

    `what` names the request in an error: "create link br0". `tolerated` are errno values that count as
    success, such as EEXIST for an address that may be there already.
    """

    __slots__ = ("body", "flags", "kind", "tolerated", "what")

    def __init__(
        self, kind: int, flags: int, body: bytes, what: str, tolerated: tuple[int, ...] = ()
    ) -> None:
        self.kind = kind
        self.flags = flags
        self.body = body
        self.what = what
        self.tolerated = tolerated

    def tolerating(self, *errors: int) -> Request:
        """The same request, with `errors` (errno values) counted as success."""
        return Request(self.kind, self.flags, self.body, self.what, (*self.tolerated, *errors))


class Message:
    """One message from the kernel: its type, flags, sequence number and what follows the header."""

    __slots__ = ("body", "flags", "kind", "sequence")

    def __init__(self, kind: int, flags: int, sequence: int, body: bytes) -> None:
        self.kind = kind
        self.flags = flags
        self.sequence = sequence
        self.body = body


def encode(request: Request, sequence: int, flags: int = 0) -> bytes:
    """`request` as bytes, padded to four, with `flags` added to its own."""
    body = request.body
    length = _HEADER.size + len(body)
    head = _HEADER.pack(length, request.kind, REQUEST | request.flags | flags, sequence, 0)
    return head + body + bytes(-length & 3)


def messages(data: bytes) -> Iterator[Message]:
    """The messages of one datagram; ValueError when a length in it cannot be."""
    offset, end = 0, len(data)
    while end - offset >= _HEADER.size:
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size or offset + length > end:
            raise ValueError(f"netlink: message of {length} bytes where {end - offset} are left")
        yield Message(kind, flags, sequence, data[offset + _HEADER.size : offset + length])
        offset += (length + 3) & ~3


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to four.

    ValueError when the payload does not fit the 16-bit length: cut off, its tail would be read as further
    attributes (CVE-2021-43784, where an attacker's path became netlink options).
    """
    length = len(payload) + 4
    if length > _LONGEST:
        raise ValueError(f"netlink: attribute {kind & KIND_MASK} of {len(payload)} bytes is too long")
    return _ATTRIBUTE.pack(length, kind) + payload + bytes(-length & 3)


def nested(kind: int, *parts: bytes) -> bytes:
    """An attribute that holds the attributes `parts`."""
    return attribute(kind | NESTED, b"".join(parts))


def text(kind: int, value: str) -> bytes:
    """A string with its final NUL; ValueError for a NUL inside, which would cut it."""
    raw = value.encode()
    if b"\0" in raw:
        raise ValueError(f"netlink: {value!r} holds a NUL")
    return attribute(kind, raw + b"\0")


def u8(kind: int, value: int) -> bytes:
    return attribute(kind, pack(_U8, value))


def u16(kind: int, value: int) -> bytes:
    return attribute(kind, pack(_U16, value))


def u32(kind: int, value: int) -> bytes:
    return attribute(kind, pack(_U32, value))


def u64(kind: int, value: int) -> bytes:
    return attribute(kind, pack(_U64, value))


def be16(kind: int, value: int) -> bytes:
    return attribute(kind, pack(_BE16, value))


def be32(kind: int, value: int) -> bytes:
    return attribute(kind, pack(_BE32, value))


def be64(kind: int, value: int) -> bytes:
    return attribute(kind, pack(_BE64, value))


def host_u32(value: int) -> bytes:
    """Four bytes in host order: how the kernel keeps marks, interface indices and its own enumerations."""
    return pack(_U32, value)


def pack(form: Struct, *values: int) -> bytes:
    """As `form.pack`, but a number that does not fit is a ValueError like every other bad value."""
    try:
        return form.pack(*values)
    except StructError as error:
        raise ValueError(f"netlink: {values} does not fit the message: {error}") from None


def attributes(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """The attributes from `offset` on, in order, flags taken off their types; ValueError for a bad length."""
    end = len(data)
    while end - offset >= 4:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4 or offset + length > end:
            raise ValueError(f"netlink: attribute of {length} bytes where {end - offset} are left")
        yield kind & KIND_MASK, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def parse(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes from `offset` on by type; of two with one type the last wins, as in the kernel."""
    return dict(attributes(data, offset))


def read_text(payload: bytes) -> str:
    return payload.partition(b"\0")[0].decode(errors="surrogateescape")


def read_u32(payload: bytes) -> int:
    return int(_U32.unpack_from(payload)[0])


def read_i32(payload: bytes) -> int:
    return int(_I32.unpack_from(payload)[0])


def read_u64(payload: bytes) -> int:
    return int(_U64.unpack_from(payload)[0])


def read_be16(payload: bytes) -> int:
    return int(_BE16.unpack_from(payload)[0])


def read_be32(payload: bytes) -> int:
    return int(_BE32.unpack_from(payload)[0])


def read_be64(payload: bytes) -> int:
    return int(_BE64.unpack_from(payload)[0])


def pack_address(address: str) -> tuple[int, bytes]:
    """`(family, bytes)` of an IPv4 or IPv6 address in text; ValueError when it is neither."""
    family = AF_INET6 if ":" in address else AF_INET
    try:
        return int(family), inet_pton(family, address)
    except (OSError, ValueError):
        raise ValueError(f"{address!r} is not an IP address") from None


def read_address(payload: bytes) -> str:
    """The text of a packed address, by its length: 4 or 16 bytes."""
    return inet_ntop(AF_INET if len(payload) == 4 else AF_INET6, payload)


def pack_network(network: str) -> tuple[int, bytes, int]:
    """`(family, bytes, prefix length)` of ``10.0.0.0/16``.

    Without a slash the whole address counts. Host bits are kept: the kernel refuses them where they matter.
    """
    address, slash, length = network.partition("/")
    family, raw = pack_address(address)
    if not slash:
        return family, raw, len(raw) * 8
    if not (length.isascii() and length.isdigit()) or len(length) > 3 or int(length) > len(raw) * 8:
        raise ValueError(f"{network!r} is not a network")
    return family, raw, int(length)


def pack_mac(address: str) -> bytes:
    """Six bytes of ``02:00:00:00:00:01``; ValueError for anything else."""
    parts = address.split(":")
    try:
        raw = bytes.fromhex("".join(parts))
    except ValueError:
        raw = b""
    if len(raw) != 6 or [len(part) for part in parts] != [2] * 6:
        raise ValueError(f"{address!r} is not a MAC address")
    return raw


def read_mac(payload: bytes) -> str:
    return payload.hex(":") if payload else ""
