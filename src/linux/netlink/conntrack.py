"""Tracked connections: find those of a port mapping, and forget them.

A UDP flow that was tracked before its port was mapped, or mapped to another container, keeps going where it
went for as long as packets come (containernetworking/plugins 123). Source: nfnetlink_conntrack.h.
"""

from __future__ import annotations

import errno
from struct import Struct

from linux.netlink import wire
from linux.netlink.batch import Batch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from linux.netlink.socket import Socket

_SUBSYSTEM = 1 << 8
_GET, _DELETE = _SUBSYSTEM | 1, _SUBSYSTEM | 2
_MESSAGE = Struct("!BBH")
_ORIGINAL, _REPLY, _ZONE, _ID, _FILTER = 1, 2, 18, 12, 25
_IP, _PROTOCOL = 1, 2
_SOURCES, _DESTINATIONS = (1, 3), (2, 4)
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
# Bits of CTA_FILTER_ORIG_FLAGS (net/netfilter/nf_internals.h).
_FILTER_NUMBER, _FILTER_DESTINATION_PORT = 1 << 3, 1 << 5


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


def flows(socket: Socket, *, family: int, protocol: int, destination_port: int) -> list[Flow]:
    """Connections of `protocol` (17 UDP, 6 TCP) whose first packet was for `destination_port`."""
    numbers = wire.u8(_NUMBER, protocol) + wire.be16(_DESTINATION_PORT, destination_port)
    flags = _FILTER_NUMBER | _FILTER_DESTINATION_PORT
    body = _MESSAGE.pack(family, 0, 0)
    body += wire.nested(_ORIGINAL, wire.nested(_PROTOCOL, numbers))
    body += wire.nested(_FILTER, wire.u32(1, flags), wire.u32(2, 0))
    try:
        answers = socket.dump(wire.Request(_GET, 0, body, "list tracked connections"))
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
        # Before Linux 5.8 the kernel does not filter.
        body = _MESSAGE.pack(family, 0, 0)
        answers = socket.dump(wire.Request(_GET, 0, body, "list tracked connections"))
    found = [Flow(message) for message in answers]
    return [f for f in found if (f.protocol, f.destination_port) == (protocol, destination_port)]


def forget(
    socket: Socket,
    *,
    family: int,
    protocol: int,
    destination_port: int,
    destination: str | None = None,
    answerer: str | None = None,
) -> int:
    """Forget the connections to a port, of only one `destination` or `answerer` when given; how many."""
    batch = Batch(socket)
    for flow in flows(socket, family=family, protocol=protocol, destination_port=destination_port):
        if destination in (None, flow.destination) and answerer in (None, flow.answerer):
            batch.add(flow.delete())
    count = len(batch)
    batch.commit()
    return count


def _tuple(raw: bytes) -> tuple[int, str, str, int, int]:
    """(protocol, source, destination, source port, destination port); ports are 0 where there are none."""
    parts = wire.parse(raw)
    addresses, numbers = wire.parse(parts[_IP]), wire.parse(parts[_PROTOCOL])
    source = next(wire.read_address(addresses[kind]) for kind in _SOURCES if kind in addresses)
    destination = next(wire.read_address(addresses[kind]) for kind in _DESTINATIONS if kind in addresses)
    ports = [wire.read_be16(numbers[k]) if k in numbers else 0 for k in (_SOURCE_PORT, _DESTINATION_PORT)]
    return numbers[_NUMBER][0], source, destination, ports[0], ports[1]
