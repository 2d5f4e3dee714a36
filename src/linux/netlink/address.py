"""Addresses on links: add, delete, list (rtnetlink(7), RTM_NEWADDR)."""

from __future__ import annotations

from struct import Struct

from linux.netlink import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from linux.netlink.socket import Socket

_NEW, _DELETE, _GET = 20, 21, 22
_HEADER = Struct("=BBBBi")
_ADDRESS, _LOCAL, _BROADCAST, _FLAGS = 1, 2, 4, 8
NODAD = 0x02
DAD_FAILED = 0x08
TENTATIVE = 0x40
NO_PREFIX_ROUTE = 0x200
_AF_INET, _AF_INET6 = 2, 10


class Address:
    """One address of a link, with its prefix length, flags and scope (0 global, 253 link)."""

    __slots__ = ("address", "flags", "index", "prefix_length", "scope")

    def __init__(self, body: bytes) -> None:
        _, self.prefix_length, flags, self.scope, self.index = _HEADER.unpack_from(body)
        found = wire.parse(body, _HEADER.size)
        # IFA_ADDRESS is the peer's on a point-to-point link; IPv6 without a peer has no IFA_LOCAL.
        self.address = wire.read_address(found.get(_LOCAL) or found[_ADDRESS])
        self.flags = wire.read_u32(found[_FLAGS]) if _FLAGS in found else flags

    def __str__(self) -> str:
        return f"{self.address}/{self.prefix_length}"


def add(index: int, network: str, *, flags: int = 0, scope: int = 0, replace: bool = False) -> wire.Request:
    """Give the link `index` the address ``10.0.0.1/24``, and with it the route to its network.

    With NODAD an IPv6 address can be used at once: without, duplicate detection takes 1 to 2 s. EEXIST when
    it is there, unless `replace`.
    """
    family, raw, length = wire.pack_network(network)
    body = _body(family, raw, length, index, scope)
    if family == _AF_INET and length < 31:
        host = (1 << 32 - length) - 1
        broadcast = int.from_bytes(raw, "big") | host
        body += wire.attribute(_BROADCAST, broadcast.to_bytes(4, "big"))
    if flags:
        body += wire.u32(_FLAGS, flags)
    mode = wire.REPLACE if replace else wire.EXCLUSIVE
    return wire.Request(_NEW, wire.CREATE | mode, body, f"add address {network}")


def delete(index: int, network: str) -> wire.Request:
    """Take the address away; EADDRNOTAVAIL when the link does not have it."""
    family, raw, length = wire.pack_network(network)
    return wire.Request(_DELETE, 0, _body(family, raw, length, index, 0), f"delete address {network}")


def addresses(socket: Socket, index: int = 0, *, family: int = 0) -> list[Address]:
    """The addresses of the link `index`, or of all links, of one family (2 IPv4, 10 IPv6) or both."""
    body = _HEADER.pack(family, 0, 0, 0, index)
    found = [Address(message.body) for message in socket.dump(wire.Request(_GET, 0, body, "list addresses"))]
    # Kernels without strict checking send those of all links.
    return [address for address in found if index in (0, address.index)]


def _body(family: int, raw: bytes, length: int, index: int, scope: int) -> bytes:
    body = wire.pack(_HEADER, family, length, 0, scope, index)
    return body + wire.attribute(_LOCAL, raw) + wire.attribute(_ADDRESS, raw)
