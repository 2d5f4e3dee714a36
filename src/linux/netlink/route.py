"""Routes of both families: add, delete, list (rtnetlink(7), RTM_NEWROUTE)."""

from __future__ import annotations

import errno
from struct import Struct

from linux.netlink import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from linux.netlink.socket import Socket

UNIVERSE, LINK, HOST = 0, 253, 254
MAIN, LOCAL = 254, 255
KERNEL, BOOT = 2, 3
UNICAST, LOCAL_TYPE, BLACKHOLE, UNREACHABLE, PROHIBIT = 1, 2, 6, 7, 8

_NEW, _DELETE, _GET = 24, 25, 26
# No route at all; what those that are unreachable, prohibited and black holes answer.
_NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL)
_HEADER = Struct("=BBBBBBBBI")
_DST, _OIF, _GATEWAY, _PRIORITY, _PREFSRC, _METRICS, _TABLE = 1, 4, 5, 6, 7, 8, 15
_METRIC_MTU, _METRIC_ADVMSS = 2, 8
_ONLINK = 4
_AF_INET = 2
_COMPATIBILITY_TABLE = 252
_NEXT_HOPS = 9
_NEXT_HOP = Struct("=HBBi")


class Route:
    """One route. `gateway` and `source` are "", and `priority`, `mtu`, `advmss` 0, when unset."""

    __slots__ = (
        "advmss", "destination", "family", "gateway", "index", "kind", "mtu", "on_link", "priority",
        "protocol", "scope", "source", "table",
    )  # fmt: skip

    def __init__(self, body: bytes) -> None:
        header = _HEADER.unpack_from(body)
        self.family, length, _, _, table, self.protocol, self.scope, self.kind, flags = header
        found = wire.parse(body, _HEADER.size)
        empty = bytes(4 if self.family == _AF_INET else 16)
        self.destination = f"{wire.read_address(found.get(_DST, empty))}/{length}"
        self.gateway = wire.read_address(found[_GATEWAY]) if _GATEWAY in found else ""
        self.source = wire.read_address(found[_PREFSRC]) if _PREFSRC in found else ""
        self.index = _number(found, _OIF)
        self.priority = _number(found, _PRIORITY)
        self.table = _number(found, _TABLE) or table
        self.on_link = bool(flags & _ONLINK)
        metrics = wire.parse(found.get(_METRICS, b""))
        self.mtu = _number(metrics, _METRIC_MTU)
        self.advmss = _number(metrics, _METRIC_ADVMSS)
        if _NEXT_HOPS in found:
            # One of several ways: the first stands for all.
            hops = found[_NEXT_HOPS]
            size, _, _, self.index = _NEXT_HOP.unpack_from(hops)
            way = wire.parse(hops[:size], _NEXT_HOP.size)
            self.gateway = wire.read_address(way[_GATEWAY]) if _GATEWAY in way else ""

    @property
    def is_default(self) -> bool:
        return self.destination in ("0.0.0.0/0", "::/0")


def add(
    destination: str,
    *,
    index: int = 0,
    gateway: str | None = None,
    source: str | None = None,
    scope: int | None = None,
    table: int | None = None,
    priority: int = 0,
    mtu: int = 0,
    advmss: int = 0,
    on_link: bool = False,
    kind: int = UNICAST,
    protocol: int = BOOT,
    replace: bool = False,
    append: bool = False,
) -> wire.Request:
    """A route to ``10.0.0.0/8`` over the link `index`.

    `protocol` says who made it: BOOT is the administrator, KERNEL comes with an address.
    `scope` None: LINK for an IPv4 route without a gateway, else UNIVERSE, as ip(8) does. `table` None or 0 is
    the main one. `mtu` and `advmss` in bytes. `on_link` takes a gateway outside of all the link's networks.
    EEXIST for a second route of the same destination and priority, unless `replace`; with `append` for one
    that is the same in everything.
    """
    family, raw, length = wire.pack_network(destination)
    if scope is None:
        near = family == _AF_INET and gateway is None and kind == UNICAST
        scope = LINK if near else UNIVERSE
    parts = [wire.attribute(_DST, raw)] if length else []
    if gateway is not None:
        gateway_family, address = wire.pack_address(gateway)
        if gateway_family != family:
            raise ValueError(f"route to {destination}: the gateway {gateway} is of the other family")
        parts.append(wire.attribute(_GATEWAY, address))
    if source is not None:
        parts.append(wire.attribute(_PREFSRC, wire.pack_address(source)[1]))
    if index:
        parts.append(wire.u32(_OIF, index))
    if priority:
        parts.append(wire.u32(_PRIORITY, priority))
    metrics = [(_METRIC_MTU, mtu), (_METRIC_ADVMSS, advmss)]
    if mtu or advmss:
        parts.append(wire.nested(_METRICS, *[wire.u32(name, value) for name, value in metrics if value]))
    header = _header(family, length, table or MAIN, scope, kind, protocol, _ONLINK if on_link else 0)
    parts.append(wire.u32(_TABLE, table or MAIN))
    mode = wire.REPLACE if replace else wire.APPEND if append else wire.EXCLUSIVE
    return wire.Request(_NEW, wire.CREATE | mode, header + b"".join(parts), f"add route to {destination}")


def delete(
    destination: str,
    *,
    index: int = 0,
    gateway: str | None = None,
    table: int | None = None,
    priority: int = 0,
) -> wire.Request:
    """Delete the first route that has all that is given; ESRCH when there is none."""
    family, raw, length = wire.pack_network(destination)
    parts = [wire.attribute(_DST, raw)] if length else []
    if gateway is not None:
        parts.append(wire.attribute(_GATEWAY, wire.pack_address(gateway)[1]))
    if index:
        parts.append(wire.u32(_OIF, index))
    if priority:
        parts.append(wire.u32(_PRIORITY, priority))
    parts.append(wire.u32(_TABLE, table or MAIN))
    # Scope NOWHERE and type 0 match any.
    header = _HEADER.pack(family, length, 0, 0, _small(table or MAIN), 0, 255, 0, 0)
    return wire.Request(_DELETE, 0, header + b"".join(parts), f"delete route to {destination}")


def routes(socket: Socket, *, family: int, table: int | None = MAIN, index: int = 0) -> list[Route]:
    """The routes of one family (2 IPv4, 10 IPv6) in `table` (None: all), over the link `index` (0: any)."""
    parts = wire.u32(_TABLE, table) if table is not None else b""
    if index:
        parts += wire.u32(_OIF, index)
    header = _HEADER.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
    request = wire.Request(_GET, 0, header + parts, "list routes", tolerated=(2,))
    found = [Route(message.body) for message in socket.dump(request)]
    return [route for route in found if table in (None, route.table) and index in (0, route.index)]


def lookup(socket: Socket, address: str) -> Route:
    """The route that a packet to `address` would take now; OSError ENETUNREACH when there is none."""
    family, raw = wire.pack_address(address)
    header = _HEADER.pack(family, len(raw) * 8, 0, 0, 0, 0, 0, 0, 0)
    request = wire.Request(_GET, 0, header + wire.attribute(_DST, raw), f"look up route to {address}")
    return Route(socket.request(request)[0].body)


def is_local(socket: Socket, address: str) -> bool:
    """Whether packets to `address` are for this very host (network namespace) now."""
    try:
        return bool(lookup(socket, address).kind == LOCAL_TYPE)
    except OSError as failed:
        if failed.errno not in _NO_WAY:
            raise
        return False


def _header(family: int, length: int, table: int, scope: int, kind: int, protocol: int, flags: int) -> bytes:
    return wire.pack(_HEADER, family, length, 0, 0, _small(table), protocol, scope, kind, flags)


def _small(table: int) -> int:
    return table if table < 256 else _COMPATIBILITY_TABLE


def _number(found: dict[int, bytes], kind: int) -> int:
    return wire.read_u32(found[kind]) if kind in found else 0
