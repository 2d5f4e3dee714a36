"""Tracked connections: find those of a port mapping, and forget them.

A UDP flow that was tracked before its port was mapped, or mapped to another container, keeps going where it
went for as long as packets come (containernetworking/plugins 123). Source: nfnetlink_conntrack.h.
"""

from __future__ import annotations

import errno
import os
from struct import Struct

from linux.netlink import wire
from linux.netlink.batch import Batch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from linux.netlink.socket import Socket

_SUBSYSTEM = 1 << 8
_GET, _DELETE, _GET_STATISTICS = _SUBSYSTEM | 1, _SUBSYSTEM | 2, _SUBSYSTEM | 5
_MESSAGE = Struct("!BBH")
_ORIGINAL, _REPLY, _ZONE, _ID, _FILTER = 1, 2, 18, 12, 25
_IP, _PROTOCOL = 1, 2
_SOURCES, _DESTINATIONS = (1, 3), (2, 4)
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
# Bits of CTA_FILTER_ORIG_FLAGS and CTA_FILTER_REPLY_FLAGS (net/netfilter/nf_internals.h).
_FILTER_SOURCE, _FILTER_NUMBER, _FILTER_DESTINATION_PORT = 1 << 0, 1 << 3, 1 << 5
_AF_INET = 2
_SHOWN = "/proc/thread-self/net/nf_conntrack"
_FEW = 500


class Flow:
    """One tracked connection: where its first packet was sent, and who answers it after translation."""

    __slots__ = ("_delete", "answerer", "answerer_port", "destination", "destination_port", "protocol")

    def __init__(self, message: wire.Message) -> None:
        found = wire.parse(message.body, _MESSAGE.size)
        original, reply = _tuple(found[_ORIGINAL]), _tuple(found[_REPLY])
        self.protocol, _, self.destination, _, self.destination_port = original
        _, self.answerer, _, self.answerer_port, _ = reply
        body = message.body[:4] + wire.nested(_ORIGINAL, found[_ORIGINAL])
        for kind in (_ID, _ZONE):
            if kind in found:
                body += wire.attribute(kind, found[kind])
        self._delete = body

    def delete(self) -> wire.Request:
        """Forget the connection; one that ended meanwhile is no error."""
        return wire.Request(_DELETE, 0, self._delete, "delete tracked connection", (errno.ENOENT,))


class Glance:
    """A look at the connections of the caller's namespace that tells what is certainly not among them.

    `flows` takes the kernel 10 ms, as it locks every slot of its table, in use or not; /proc shows what is in
    them in a fraction of that. But it shows many slowly: when there are, or on a kernel that does not show
    any, nothing is certain. `count` is how many there are.
    """

    __slots__ = ("_text", "count")

    def __init__(self, socket: Socket) -> None:
        self.count = count(socket)
        self._text = b"" if self.count == 0 else _shown() if self.count <= _FEW else None

    def may_lead_to(self, port: int) -> bool:
        """Whether there may be one that was opened to that port, of whatever protocol and address."""
        return self._text is None or b" dport=%d " % port in self._text

    def may_involve(self, address: str) -> bool:
        """Whether there may be one that has the address in it."""
        if self._text is None:
            return True
        family, raw = wire.pack_address(address)
        text = address if family == _AF_INET else raw.hex(":", 2)
        return f"={text} ".encode() in self._text


def _shown() -> bytes | None:
    try:
        fd = os.open(_SHOWN, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        pieces = []
        while piece := os.read(fd, 1 << 16):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        os.close(fd)


def count(socket: Socket) -> int:
    """How many connections are tracked in the namespace, of both families; it costs next to nothing."""
    body = _MESSAGE.pack(0, 0, 0)
    answer = socket.ask(wire.Request(_GET_STATISTICS, 0, body, "count tracked connections"))
    return 0 if answer is None else wire.read_be32(wire.parse(answer.body, _MESSAGE.size)[1])


def flows(
    socket: Socket, *, family: int, protocol: int = 0, destination_port: int = 0, answerer: str = ""
) -> list[Flow]:
    """Connections of a family (2 IPv4, 10 IPv6), of those that have all that is given.

    `protocol` (17 UDP, 6 TCP) and `destination_port` (it needs a protocol) are of the first packet;
    `answerer` is the address that answers, after translation.
    """
    parts, original, reply = [], 0, 0
    if protocol:
        numbers = wire.u8(_NUMBER, protocol)
        original |= _FILTER_NUMBER
        if destination_port:
            numbers += wire.be16(_DESTINATION_PORT, destination_port)
            original |= _FILTER_DESTINATION_PORT
        parts.append(wire.nested(_ORIGINAL, wire.nested(_PROTOCOL, numbers)))
    if answerer:
        answering_family, raw = wire.pack_address(answerer)
        source = wire.attribute(_SOURCES[0] if answering_family == _AF_INET else _SOURCES[1], raw)
        parts.append(wire.nested(_REPLY, wire.nested(_IP, source)))
        reply |= _FILTER_SOURCE
    parts.append(wire.nested(_FILTER, wire.u32(1, original), wire.u32(2, reply)))
    header = _MESSAGE.pack(family, 0, 0)
    try:
        answers = socket.dump(wire.Request(_GET, 0, header + b"".join(parts), "list tracked connections"))
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
        # Before Linux 5.8 the kernel does not filter.
        answers = socket.dump(wire.Request(_GET, 0, header, "list tracked connections"))
    found = [Flow(message) for message in answers]
    return [
        flow
        for flow in found
        if protocol in (0, flow.protocol)
        and destination_port in (0, flow.destination_port)
        and answerer in ("", flow.answerer)
    ]


def forget(socket: Socket, forgotten: Iterable[Flow]) -> None:
    """Forget connections; those that ended meanwhile are no error."""
    batch = Batch(socket)
    batch.add(*[flow.delete() for flow in forgotten])
    batch.commit()


def _tuple(raw: bytes) -> tuple[int, str, str, int, int]:
    """(protocol, source, destination, source port, destination port); ports are 0 where there are none."""
    parts = wire.parse(raw)
    addresses, numbers = wire.parse(parts[_IP]), wire.parse(parts[_PROTOCOL])
    source = next(wire.read_address(addresses[kind]) for kind in _SOURCES if kind in addresses)
    destination = next(wire.read_address(addresses[kind]) for kind in _DESTINATIONS if kind in addresses)
    ports = [wire.read_be16(numbers[k]) if k in numbers else 0 for k in (_SOURCE_PORT, _DESTINATION_PORT)]
    return numbers[_NUMBER][0], source, destination, ports[0], ports[1]
