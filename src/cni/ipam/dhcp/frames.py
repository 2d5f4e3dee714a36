"""DHCP in Ethernet frames: a client without an address can neither send nor receive by UDP sockets.

A frame is Ethernet, IPv4 and UDP around the message, with checksums. The channel is a packet socket whose
filter lets only answers to this client pass, so that other traffic neither wakes it nor takes its place.
"""

from __future__ import annotations

import struct
from time import monotonic

from linux.bare import socket
from linux.namespaces import inside

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from typing import Final

EVERYBODY = b"\xff" * 6
BROADCAST = b"\xff" * 4
NOBODY = bytes(4)
SERVER_PORT, CLIENT_PORT = 67, 68

_IPV4 = 0x0800
_UDP = 17
_ETHERNET_FORM = struct.Struct("!6s6sH")
_IP_FORM = struct.Struct("!BBHHHBBH4s4s")
_UDP_FORM = struct.Struct("!HHHH")
_LARGEST = 9000  # bytes of a frame that are read: no network has larger ones
_FRAGMENTED = 0x3FFF  # more fragments, or not the first one

# linux/if_packet.h, linux/filter.h
_SOL_PACKET = 263
_PACKET_AUXDATA = 8
_AUXDATA_FORM = struct.Struct("=IIIHHHH")
_CHECKSUM_NOT_READY = 1 << 3
_SO_ATTACH_FILTER = 26

# Classic BPF (bpf(4)): IPv4, UDP, no fragment, from the server's port to the client's, about this client, by
# its hardware address. Offsets are those of a socket of type SOCK_RAW: the Ethernet header is at 0.
_FILTER = (
    (0x28, 0, 0, 12),  # load half: the type of the frame
    (0x15, 0, 13, _IPV4),
    (0x30, 0, 0, 23),  # load byte: the protocol
    (0x15, 0, 11, _UDP),
    (0x28, 0, 0, 20),  # load half: fragment
    (0x45, 9, 0, _FRAGMENTED),
    (0xB1, 0, 0, 14),  # x = length of the IP header
    (0x48, 0, 0, 14),  # load half at x: from port
    (0x15, 0, 6, SERVER_PORT),
    (0x48, 0, 0, 16),  # load half at x: to port
    (0x15, 0, 4, CLIENT_PORT),
    (0x40, 0, 0, 50),  # load word at x: chaddr, which is 28 bytes into the message
)
_PASS = (
    (0x06, 0, 0, 0),  # pass nothing
    (0x06, 0, 0, 0x40000),  # pass it whole
)


class Received:
    """What came in: the UDP payload, and the hardware address of whoever put it on this network."""

    __slots__ = ("mac", "payload")

    def __init__(self, payload: bytes, mac: bytes) -> None:
        self.payload: Final = payload
        self.mac: Final = mac


class Channel:
    """Frames with DHCP in and out of the interface `index`, in the network namespace `netns` (a path).

    `mac` is the interface's hardware address, `client` the one that the client has in its messages.
    Closed by `close` or as a context manager. OSError when there is no such interface, ValueError when the
    path is no namespace.
    """

    __slots__ = ("_mac", "_socket")

    def __init__(self, netns: str, index: int, mac: bytes, client: bytes) -> None:
        self._mac = mac
        with inside(netns):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
            try:
                name = socket.if_indextoname(index)
                # Filtered before it hears anything: protocol 0 is nothing, the bind below turns it on.
                _attach_filter(self._socket, client)
                self._socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
                self._socket.setblocking(False)  # noqa: FBT003  an API of the standard library
                self._socket.bind((name, _IPV4))
            except BaseException:
                self._socket.close()
                raise

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return int(self._socket.fileno())

    def send(
        self, payload: bytes, *, to: bytes = EVERYBODY, source: bytes = NOBODY, target: bytes = BROADCAST
    ) -> None:
        """Send from `source` to `target`, on this network to the hardware address `to`."""
        self._socket.send(encode(payload, self._mac, to, source, target))

    def receive(self, deadline: float) -> Received | None:
        """The next frame to a DHCP client, waiting until `deadline` (monotonic); None when none came.

        Frames that are damaged are passed over.
        """
        import select

        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        while True:
            left = deadline - monotonic()
            if left <= 0:
                return None  # even if there is more: somebody may send without end
            if poll.poll(min(left, 3600) * 1000) and (found := self.take()) is not None:
                return found

    def take(self) -> Received | None:
        """A frame that has come already; None when there is none, or a damaged one."""
        try:
            data, ancillary, _, _ = self._socket.recvmsg(_LARGEST, 256)
        except BlockingIOError:
            return None
        try:
            return decode(data, checked=not _is_unchecked(ancillary))
        except ValueError:
            return None


def encode(payload: bytes, mac: bytes, to: bytes, source: bytes, target: bytes) -> bytes:
    """A frame from a client to a server."""
    length = _UDP_FORM.size + len(payload)
    udp = _UDP_FORM.pack(CLIENT_PORT, SERVER_PORT, length, 0) + payload
    total = _checksum(_pseudo_header(source, target, length) + udp) or 0xFFFF
    udp = _UDP_FORM.pack(CLIENT_PORT, SERVER_PORT, length, total) + payload
    fields = [0x45, 0x10, _IP_FORM.size + length, 0, 0, 64, _UDP, 0, source, target]
    fields[7] = _checksum(_IP_FORM.pack(*fields))
    return _ETHERNET_FORM.pack(to, mac, _IPV4) + _IP_FORM.pack(*fields) + udp


def decode(frame: bytes, *, checked: bool = True) -> Received:
    """What a frame to a client carries; ValueError for any other, and for a damaged one.

    `checked`: its checksum has been computed. Between two interfaces of one kernel it never is.
    """
    start = _ETHERNET_FORM.size
    if len(frame) < start + _IP_FORM.size:
        raise ValueError("a frame that ends within its headers")
    _, sender, kind = _ETHERNET_FORM.unpack_from(frame)
    first, _, total, _, fragment, _, protocol, _, source, target = _IP_FORM.unpack_from(frame, start)
    header = (first & 15) * 4
    if kind != _IPV4 or first >> 4 != 4 or header < _IP_FORM.size or protocol != _UDP:
        raise ValueError("not a frame with IPv4 and UDP")
    # A short frame is padded, so what counts is the length that IP says.
    packet = frame[start : start + total]
    if len(packet) != total or total < header + _UDP_FORM.size or fragment & _FRAGMENTED:
        raise ValueError("a packet that ends too early, or only a part of one")
    if _checksum(packet[:header]):
        raise ValueError("an IPv4 header with a wrong checksum")
    udp = packet[header:]
    origin, port, length, checksum = _UDP_FORM.unpack_from(udp)
    if (origin, port) != (SERVER_PORT, CLIENT_PORT) or not _UDP_FORM.size <= length <= len(udp):
        raise ValueError("not a datagram from a DHCP server to a client")
    if checksum and checked and _checksum(_pseudo_header(source, target, length) + udp[:length]):
        raise ValueError("a datagram with a wrong checksum")
    return Received(bytes(udp[_UDP_FORM.size : length]), sender)


def _attach_filter(packet: socket.socket, client: bytes) -> None:
    import ctypes

    address = (
        (0x15, 0, 2, int.from_bytes(client[:4], "big")),
        (0x48, 0, 0, 54),  # load half at x: the rest of chaddr
        (0x15, 1, 0, int.from_bytes(client[4:6], "big")),
    )
    instructions = (*_FILTER, *address, *_PASS)
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in instructions))
    pointer = struct.pack("@HP", len(instructions), ctypes.addressof(program))
    packet.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pointer)


def _is_unchecked(ancillary: list[tuple[int, int, bytes]]) -> bool:
    for level, kind, data in ancillary:
        if level == _SOL_PACKET and kind == _PACKET_AUXDATA and len(data) >= _AUXDATA_FORM.size:
            return bool(_AUXDATA_FORM.unpack_from(data)[0] & _CHECKSUM_NOT_READY)
    return False


def _pseudo_header(source: bytes, target: bytes, length: int) -> bytes:
    return source + target + struct.pack("!BBH", 0, _UDP, length)


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071); 0 for data that includes its right one."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
