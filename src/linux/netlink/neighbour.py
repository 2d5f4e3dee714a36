"""Neighbours: the ARP and NDP tables, and the forwarding entries of bridges (ip-neighbour(8), bridge(8))."""

from __future__ import annotations

from struct import Struct

from linux.netlink import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from linux.netlink.socket import Socket

REACHABLE, STALE, NO_ARP, PERMANENT = 0x02, 0x04, 0x40, 0x80

_NEW, _DELETE, _GET = 28, 29, 30
_HEADER = Struct("=BxHiHBB")
_DST, _MAC = 1, 2


class Neighbour:
    """One entry: `address` ("" in a bridge's table), `mac` ("" while unknown), state bits, link index."""

    __slots__ = ("address", "index", "mac", "state")

    def __init__(self, body: bytes) -> None:
        _, _, self.index, self.state, _, _ = _HEADER.unpack_from(body)
        found = wire.parse(body, _HEADER.size)
        self.address = wire.read_address(found[_DST]) if _DST in found else ""
        self.mac = wire.read_mac(found.get(_MAC, b""))


def add(index: int, address: str, mac: str, *, state: int = PERMANENT) -> wire.Request:
    """`address` on the link `index` is at `mac`; an entry that is there is replaced."""
    family, raw = wire.pack_address(address)
    body = _HEADER.pack(family, 0, index, state, 0, 0)
    body += wire.attribute(_DST, raw) + wire.attribute(_MAC, wire.pack_mac(mac))
    return wire.Request(_NEW, wire.CREATE | wire.REPLACE, body, f"add neighbour {address}")


def delete(index: int, address: str) -> wire.Request:
    """Forget where `address` is; ENOENT when nothing is known of it."""
    family, raw = wire.pack_address(address)
    body = _HEADER.pack(family, 0, index, 0, 0, 0) + wire.attribute(_DST, raw)
    return wire.Request(_DELETE, 0, body, f"delete neighbour {address}")


def neighbours(socket: Socket, index: int = 0, *, family: int = 0) -> list[Neighbour]:
    """Neighbours on the link `index` (0: all), of one family (2, 10; 7 for bridges) or both."""
    body = _HEADER.pack(family, 0, 0, 0, 0, 0)
    found = [
        Neighbour(message.body) for message in socket.dump(wire.Request(_GET, 0, body, "list neighbours"))
    ]
    return [entry for entry in found if index in (0, entry.index)]
