"""sbr: what a container sends from an address of this interface goes out by this interface.

For a container with several interfaces, whose main table would send it all by one of them. Each address gets
a routing table of its own, with the routes of the interface, and a rule that its packets go by that table.
"""

from __future__ import annotations

import errno

from cni import state
from cni.attachment import chained, routes, verify
from cni.attachment.veth import Namespaces
from cni.errors import INVALID_NETNS, UNKNOWN_CONTAINER, CniError
from cni.fields import Fields
from cni.types.address import Cidr, format_ip, parse_ip
from cni.undo import Undo
from linux.netlink import address, link, route, rule
from linux.netlink.batch import Batch

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni.request import Request
    from cni.types.result import IPConfig, Result
    from linux.netlink.route import Route
    from linux.netlink.socket import Socket
    from linux.netlink.wire import Request as Message

NAME = "sbr"

_FIRST_TABLE = 100
_HIGHEST_TABLE = (1 << 32) - 1


class Config:
    """`table` 0: one of its own for each address. `gateways` maps whether it is IPv6 to an address."""

    __slots__ = ("gateways", "hints", "table")

    def __init__(self, request: Request) -> None:
        fields = request.fields
        self.table = fields.integer("table", low=0, high=_HIGHEST_TABLE)
        self.hints = fields.boolean("addSourceHints")
        self.gateways: dict[bool, str] = {}
        for text in fields.strings("gateways"):
            packed = parse_ip(text)
            if self.gateways.setdefault(len(packed) == 16, format_ip(packed)) != format_ip(packed):
                raise ValueError(f"gateways: {text} is the second of its family")


def add(request: Request) -> Result:
    """Make rules and tables; the result is that of the plugin before."""
    result = verify.previous(request)
    config = Config(request)
    ips = _own_ips(request, result)
    if not ips:
        raise request.refuse("the plugins before gave no address", f"to {request.ifname}")
    with Namespaces(request) as namespaces, chained.lock(namespaces):
        if state.load(request, NAME) is not None:
            _take_back(request, namespaces)  # of an ADD that was killed
        socket = namespaces.container
        index = chained.container_link(request, namespaces).index
        tables = (
            [config.table] * len(ips) if config.table else routes.free_tables(socket, _FIRST_TABLE, len(ips))
        )
        moved = [] if config.table else routes.main(socket, index)
        made: dict[str, object] = {
            "netns": chained.identity(namespaces),
            "index": index,
            "rules": [
                {"source": str(each.address.host), "table": table}
                for each, table in zip(ips, tables, strict=True)
            ],
            "own": not config.table,
            "routes": [routes.to_json(each) for each in moved],
        }
        with Undo() as undo:
            undo.push(lambda: _take_back(request, namespaces))
            state.save(request, NAME, made)
            batch = Batch(socket)
            for each, table in zip(ips, tables, strict=True):
                if not config.table:
                    batch.add(*_filled(index, table, each, moved, config))
                add_rule = rule.add(table, source=str(each.address.host))
                batch.add(add_rule.tolerating(errno.EEXIST))
            batch.add(*_emptied(index, moved, ips, hints=config.hints))
            _commit(request, batch)
    return result


def check(request: Request) -> None:
    """The rules are there, and the tables are not empty."""
    result = verify.previous(request)
    config = Config(request)
    with Namespaces(request) as namespaces:
        socket = namespaces.container
        index = chained.checked_link(request, namespaces).index
        rules = [each for family in routes.FAMILIES for each in rule.rules(socket, family=family)]
        filled = {each.table for each in routes.everywhere(socket, index)}
        for each in _own_ips(request, result):
            source = str(each.address.host)
            tables = {one.table for one in rules if one.source == source}
            if not tables or (config.table and config.table not in tables):
                raise verify.damaged(f"there is no rule for packets from {each.address.address}")
            if not config.table and tables.isdisjoint(filled):
                raise verify.damaged(f"no table has routes for packets from {each.address.address}")


def delete(request: Request) -> None:
    """Take rules and tables away, and give the main table its routes back."""
    record = state.load(request, NAME)
    if record is None:
        _delete_unrecorded(request)
    elif chained.is_there(request, Fields(record)):
        with Namespaces(request) as namespaces, chained.lock(namespaces):
            _take_back(request, namespaces)
    state.remove(request, NAME)


def _own_ips(request: Request, result: Result) -> list[IPConfig]:
    """The addresses of the container's interface; those that name no interface are taken for its own."""
    found = []
    for each in result.ips:
        place = each.interface
        known = place is not None and 0 <= place < len(result.interfaces)
        if not known or result.interfaces[place or 0].name == request.ifname:
            found.append(each)
    return found


def _filled(index: int, table: int, ip: IPConfig, moved: Sequence[Route], config: Config) -> list[Message]:
    """Requests for the routes of an address's own table."""
    family = 10 if ip.address.v6 else 2
    chosen = config.gateways.get(ip.address.v6, "")
    copied = [each for each in moved if each.family == family and not (chosen and each.is_default)]
    requests = [routes.added(index, routes.to_json(each), table=table) for each in copied]
    gateway = chosen or (format_ip(ip.gateway) if ip.gateway else "")
    if gateway and not any(each.is_default for each in copied):
        everything = "::/0" if ip.address.v6 else "0.0.0.0/0"
        requests.append(route.add(everything, index=index, gateway=gateway, table=table))
    return requests


def _commit(request: Request, batch: Batch) -> None:
    try:
        batch.commit()
    except OSError as failed:
        if failed.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL):
            # A gateway that is not in the interface's networks.
            raise request.refuse(f"the routes of {request.ifname} cannot be", str(failed)) from None
        raise


def _emptied(index: int, moved: Sequence[Route], ips: Sequence[IPConfig], *, hints: bool) -> list[Message]:
    """Requests that take the routes out of the main table; with `hints` those on the link stay there.

    They then say which address is used by who has not chosen one: other interfaces may have that subnet too.
    """
    requests = []
    for each in reversed(moved):
        owner = _address_in(each, ips) if hints and not each.gateway else ""
        if owner and each.source:
            continue
        requests.append(
            route.delete(
                each.destination, index=index, gateway=each.gateway or None, priority=each.priority
            ).tolerating(*routes.GONE)
        )
        if owner:
            requests.append(routes.added(index, {**routes.to_json(each), "source": owner}))
    return requests


def _address_in(found: Route, ips: Sequence[IPConfig]) -> str:
    network = Cidr.parse(found.destination)
    return next((each.address.address for each in ips if network.contains(each.address.packed)), "")


def _take_back(request: Request, namespaces: Namespaces) -> None:
    record = state.load(request, NAME)
    if record is None:
        return
    made = Fields(record)
    index = made.integer("index")
    socket = namespaces.container
    batch = Batch(socket)
    tables = set()
    for each in made.mappings("rules"):
        tables.add(each.integer("table"))
        batch.add(rule.delete(each.integer("table"), source=each.string("source")).tolerating(*routes.GONE))
    if made.boolean("own") and link.get(socket, index) is not None:
        for shown in made.mappings("routes"):
            batch.add(*_restored(index, shown))
        for found in routes.everywhere(socket, index):
            if found.table in tables:
                batch.add(routes.removed(found))
    batch.commit()
    state.remove(request, NAME)


def _restored(index: int, shown: Fields) -> list[Message]:
    """Requests that put a route into the main table as it was, in place of one with a hint."""
    back = routes.added(index, shown.values).tolerating(*routes.NOT_NOW)
    if shown.string("gateway") or shown.string("source"):
        return [back]
    hinted = route.delete(shown.string("destination"), index=index, priority=shown.integer("priority"))
    return [hinted.tolerating(*routes.GONE), back]


def _delete_unrecorded(request: Request) -> None:
    """DEL of what the reference plugin made, or nobody: the rules for addresses of the interface."""
    if request.netns is None:
        return
    try:
        previous = request.prev_result
    except CniError:
        previous = None  # unreadable: no reason to keep what can be found without it
    sources = {str(each.address.host) for each in _own_ips(request, previous)} if previous else set()
    try:
        with Namespaces(request) as namespaces, chained.lock(namespaces):
            found = link.get(namespaces.container, request.ifname)
            if found is not None:
                present = address.addresses(namespaces.container, found.index)
                sources.update(str(Cidr.parse(str(each)).host) for each in present)
            _delete_rules(namespaces.container, sources)
    except CniError as failed:
        if failed.code not in (UNKNOWN_CONTAINER, INVALID_NETNS):
            raise


def _delete_rules(socket: Socket, sources: set[str]) -> None:
    batch = Batch(socket)
    for family in routes.FAMILIES:
        for each in rule.rules(socket, family=family):
            if each.source in sources and each.table not in routes.RESERVED_TABLES:
                batch.add(rule.delete(each.table, source=each.source).tolerating(*routes.GONE))
    batch.commit()
