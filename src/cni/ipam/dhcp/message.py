"""DHCP messages, RFC 2131 and 2132: bytes to fields and back.

Whatever comes in is hostile: nothing is read beyond its end, and a message that is not as the RFC says is a
ValueError, never half a message.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

# Message types (option 53).
DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM = range(1, 9)

# Options, by the names of RFC 2132, 3397, 3442.
SUBNET_MASK = 1
ROUTER = 3
DOMAIN_SERVER = 6
HOST_NAME = 12
DOMAIN_NAME = 15
INTERFACE_MTU = 26
STATIC_ROUTE = 33
REQUESTED_ADDRESS = 50
LEASE_TIME = 51
OVERLOAD = 52
MESSAGE_TYPE = 53
SERVER_ID = 54
PARAMETER_LIST = 55
MESSAGE = 56
LARGEST_MESSAGE = 57
RENEWAL_TIME = 58
REBINDING_TIME = 59
VENDOR_CLASS = 60
CLIENT_ID = 61
USER_CLASS = 77
DOMAIN_SEARCH = 119
CLASSLESS_ROUTE = 121
CLASSLESS_ROUTE_MICROSOFT = 249

# op, htype, hlen, hops, xid, secs, flags, ciaddr, yiaddr, siaddr, giaddr, chaddr, sname, file, cookie
_FORM = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")
_COOKIE = b"\x63\x82\x53\x63"
_BOOTREQUEST, _BOOTREPLY = 1, 2
_ETHERNET = 1
_BROADCAST = 0x8000
_PAD, _END = 0, 255
_LARGEST = 1472  # bytes in one Ethernet frame
_SMALLEST = 300  # of BOOTP, RFC 1542 2.1: some relays drop what is shorter
NOWHERE = bytes(4)  # 0.0.0.0


class Message:
    """One message. `options` has the bytes of each; parts of a long option are put together (RFC 3396)."""

    __slots__ = ("broadcast", "ciaddr", "giaddr", "mac", "options", "reply", "secs", "xid", "yiaddr")

    def __init__(
        self,
        xid: int,
        mac: bytes,
        options: Mapping[int, bytes],
        *,
        reply: bool = False,
        secs: int = 0,
        broadcast: bool = False,
        ciaddr: bytes = NOWHERE,
        yiaddr: bytes = NOWHERE,
        giaddr: bytes = NOWHERE,
    ) -> None:
        self.xid: Final = xid
        self.mac: Final = mac
        self.options: Final = dict(options)
        self.reply: Final = reply
        self.secs: Final = secs
        self.broadcast: Final = broadcast
        self.ciaddr: Final = ciaddr
        self.yiaddr: Final = yiaddr
        self.giaddr: Final = giaddr

    @property
    def type(self) -> int:
        """The message type, 0 for a message that has none (it is then BOOTP)."""
        value = self.options.get(MESSAGE_TYPE, b"")
        return value[0] if len(value) == 1 else 0

    def address(self, option: int) -> bytes:
        """The first IPv4 address of an option; b"" when it is missing or too short."""
        value = self.options.get(option, b"")
        return value[:4] if len(value) >= 4 else b""

    def number(self, option: int) -> int | None:
        """The unsigned integer of an option of 1, 2 or 4 bytes; None when missing or of another size."""
        value = self.options.get(option, b"")
        return int.from_bytes(value, "big") if len(value) in (1, 2, 4) else None

    def encode(self) -> bytes:
        """The message in bytes; ValueError when it would not fit in one Ethernet frame."""
        data = bytearray(
            _FORM.pack(
                _BOOTREPLY if self.reply else _BOOTREQUEST,
                _ETHERNET,
                len(self.mac),
                0,
                self.xid,
                min(self.secs, 0xFFFF),
                _BROADCAST if self.broadcast else 0,
                self.ciaddr,
                self.yiaddr,
                NOWHERE,
                self.giaddr,
                self.mac.ljust(16, b"\0"),
                b"",
                b"",
                _COOKIE,
            )
        )
        # The type first: every reader expects it there.
        for code in sorted(self.options, key=lambda code: (code != MESSAGE_TYPE, code)):
            value = self.options[code]
            for start in range(0, max(len(value), 1), 255):
                piece = value[start : start + 255]
                data += bytes((code, len(piece))) + piece
        data.append(_END)
        if len(data) > _LARGEST:
            raise ValueError(f"a DHCP message of {len(data)} bytes: at most {_LARGEST} fit in a frame")
        return bytes(data.ljust(_SMALLEST, b"\0"))

    @classmethod
    def decode(cls, data: bytes) -> Message:
        """Read a message; ValueError for what is none, ends too early, or is for other hardware."""
        if len(data) < _FORM.size:
            raise ValueError(f"a DHCP message of {len(data)} bytes ends within its header")
        (
            op, htype, hlen, _, xid, secs, flags, ciaddr, yiaddr, _, giaddr, chaddr, sname, file, cookie,
        ) = _FORM.unpack_from(data)  # fmt: skip
        if op not in (_BOOTREQUEST, _BOOTREPLY) or cookie != _COOKIE:
            raise ValueError("not a DHCP message")
        if htype != _ETHERNET or hlen != 6:
            raise ValueError(f"a DHCP message for hardware of type {htype}, with {hlen} bytes of address")
        options: dict[int, bytes] = {}
        _read_options(data[_FORM.size :], options, "the options")
        overload = options.pop(OVERLOAD, b"\0")
        # The order of RFC 3396 5: options, file, sname. Neither may itself say that there is more.
        if overload[:1] in (b"\1", b"\3"):
            _read_options(file, options, "the field file")
        if overload[:1] in (b"\2", b"\3"):
            _read_options(sname, options, "the field sname")
        options.pop(OVERLOAD, None)
        return cls(
            xid,
            chaddr[:hlen],
            options,
            reply=op == _BOOTREPLY,
            secs=secs,
            broadcast=bool(flags & _BROADCAST),
            ciaddr=ciaddr,
            yiaddr=yiaddr,
            giaddr=giaddr,
        )


def _read_options(data: bytes, options: dict[int, bytes], where: str) -> None:
    position = 0
    while position < len(data):
        code = data[position]
        position += 1
        if code == _PAD:
            continue
        if code == _END:
            return
        if position >= len(data):
            raise ValueError(f"{where} of a DHCP message end within option {code}")
        length = data[position]
        value = data[position + 1 : position + 1 + length]
        if len(value) != length:
            raise ValueError(f"{where} of a DHCP message end within option {code}")
        options[code] = options.get(code, b"") + value
        position += 1 + length
