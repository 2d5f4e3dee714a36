"""Routes of an interface that another plugin made: read, written down, taken away and put back."""

from __future__ import annotations

import errno

from cni.fields import Fields
from cni.types.address import Cidr
from linux.netlink import route, rule

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Iterator

    from linux.netlink.route import Route
    from linux.netlink.socket import Socket
    from linux.netlink.wire import Request as Message

FAMILIES = (2, 10)
RESERVED_TABLES = range(253, 256)  # default, main, local

# Of a route, an address or a rule that is to be deleted.
GONE = (errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL)
# Of a route that is to come back: it is there, or what it leads through is not.
NOT_NOW = (errno.EEXIST, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL, errno.ENODEV, errno.ENETDOWN)

_LINK_LOCAL = Cidr.parse("fe80::/10")


def everywhere(socket: Socket, index: int = 0) -> Iterator[Route]:
    """The routes of all tables and both families, over the link `index` (0: any)."""
    for family in FAMILIES:
        yield from route.routes(socket, family=family, table=None, index=index)


def main(socket: Socket, index: int) -> list[Route]:
    """The interface's routes in the main table, those on the link first, without the link-local ones."""
    found = [each for family in FAMILIES for each in route.routes(socket, family=family, index=index)]
    kept = [
        each
        for each in found
        if each.kind == route.UNICAST and not _LINK_LOCAL.contains(Cidr.parse(each.destination).packed)
    ]
    return sorted(kept, key=lambda each: bool(each.gateway))


def to_json(each: Route) -> dict[str, object]:
    """What `added` needs to make the route again."""
    shown: dict[str, object] = {
        "destination": each.destination,
        "scope": each.scope,
        "protocol": each.protocol,
    }
    for key in ("gateway", "source", "priority", "mtu", "advmss", "on_link"):
        if getattr(each, key):
            shown[key] = getattr(each, key)
    return shown


def added(index: int, shown: dict[str, object], *, table: int = route.MAIN) -> Message:
    """A request for the route in `table`, where it may be already."""
    each = Fields(shown)
    return route.add(
        each.string("destination"),
        index=index,
        gateway=each.string("gateway") or None,
        source=each.string("source") or None,
        scope=each.integer("scope"),
        table=table,
        priority=each.integer("priority"),
        mtu=each.integer("mtu"),
        advmss=each.integer("advmss"),
        on_link=each.boolean("on_link"),
        protocol=each.integer("protocol"),
        append=True,
    ).tolerating(errno.EEXIST)


def removed(each: Route) -> Message:
    """A request to delete the route from its table, from which it may be gone already."""
    return route.delete(
        each.destination,
        index=each.index,
        gateway=each.gateway or None,
        table=each.table,
        priority=each.priority,
    ).tolerating(*GONE)


def free_tables(socket: Socket, first: int, count: int) -> list[int]:
    """The first `count` tables from `first` on in which no route is and to which no rule leads."""
    used = {each.table for family in FAMILIES for each in rule.rules(socket, family=family)}
    used.update(each.table for each in everywhere(socket))
    used.update(RESERVED_TABLES)
    found: list[int] = []
    table = first
    while len(found) < count:
        if table not in used:
            found.append(table)
        table += 1
    return found
