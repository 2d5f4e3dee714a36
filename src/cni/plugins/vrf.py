"""vrf: puts the interface into a virtual routing domain of the container, with its addresses and routes.

The kernel takes an interface down and up on its way in and out, which costs it its IPv6 addresses and all
routes that did not come with an address: they are put back, on the way in into the domain's table.
"""

from __future__ import annotations

import errno
from time import monotonic, sleep

from cni import state
from cni.attachment import chained, routes, verify
from cni.attachment.veth import Namespaces
from cni.errors import INVALID_NETNS, PLUGIN_NOT_AVAILABLE, UNKNOWN_CONTAINER, CniError
from cni.fields import Fields
from cni.types import version
from cni.undo import Undo
from linux.netlink import address, link, route
from linux.netlink.batch import Batch

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Collection

    from cni.request import Request
    from cni.types.result import Result
    from linux.netlink.link import Link
    from linux.netlink.socket import Socket
    from linux.netlink.wire import Request as Message

NAME = "vrf"

VERSIONS = version.KNOWN[3:]

_KIND = "vrf"
_FIRST_TABLE = 1
_HIGHEST_TABLE = (1 << 32) - 1
# The alias of a domain that this plugin has made, and deletes with its last interface.
_MARK = "made by rkt-platform"
_GLOBAL = 0
_INET6 = 10
# How long to wait for the routes of addresses at most, in seconds.
_PATIENCE = 1.0
_NOT_YET = address.TENTATIVE | address.DAD_FAILED


class Config:
    """`table` 0: the domain's, when it is there, else a free one."""

    __slots__ = ("name", "table")

    def __init__(self, request: Request) -> None:
        self.name = link.check_name(request.fields.string("vrfname"))
        self.table = request.fields.integer("table", low=0, high=_HIGHEST_TABLE)


def add(request: Request) -> Result:
    """Move the interface; the result is that of the plugin before."""
    result = verify.previous(request)
    config = Config(request)
    with Namespaces(request) as namespaces, chained.lock(namespaces):
        if state.load(request, NAME) is not None:
            _take_back(request, namespaces)  # of an ADD that was killed
        socket = namespaces.container
        inside = chained.container_link(request, namespaces)
        if inside.master:
            master = link.get(socket, inside.master)
            raise request.refuse(
                f"{request.ifname} has already a master set", "" if master is None else master.name
            )
        domain = link.get(socket, config.name)
        table = _table(request, socket, config, domain)
        made: dict[str, object] = {
            "netns": chained.identity(namespaces),
            "index": inside.index,
            "vrf": config.name,
            "table": table,
            "created": domain is None,
            **_kept(socket, inside),
        }
        with Undo() as undo:
            undo.push(lambda: _take_back(request, namespaces))
            state.save(request, NAME, made)
            if domain is None:
                domain = _create(socket, config.name, table)
            _move(socket, inside, domain.index)
            _put_back(socket, inside, Fields(made), table)
            _wait_until_taken(socket, inside)
    return result


def check(request: Request) -> None:
    """The interface is in the domain, and the domain has its table."""
    verify.previous(request)
    config = Config(request)
    with Namespaces(request) as namespaces:
        inside = chained.checked_link(request, namespaces)
        domain = link.get(namespaces.container, config.name)
        if domain is None or domain.kind != _KIND:
            raise verify.damaged(f"the container has no vrf {config.name}")
        if inside.master != domain.index:
            raise verify.damaged(f"{request.ifname} is not in the vrf {config.name}")
        record = state.load(request, NAME)
        table = config.table or (Fields(record).integer("table") if record is not None else 0)
        if table and domain.vrf_table != table:
            raise verify.damaged(f"the vrf {config.name} has the table {domain.vrf_table}", f"not {table}")


def delete(request: Request) -> None:
    """Take the interface out, and delete the domain when it was the last. With the namespace all is gone."""
    record = state.load(request, NAME)
    if record is None:
        _delete_unrecorded(request)
    elif chained.is_there(request, Fields(record)):
        with Namespaces(request) as namespaces, chained.lock(namespaces):
            _take_back(request, namespaces)
    state.remove(request, NAME)


def _table(request: Request, socket: Socket, config: Config, domain: Link | None) -> int:
    if domain is None:
        if config.table:
            return config.table
        # Those of domains count even while no route is in them.
        taken = [each.vrf_table for each in link.links(socket) if each.kind == _KIND]
        free = routes.free_tables(socket, _FIRST_TABLE, len(taken) + 1)
        return next(each for each in free if each not in taken)
    if domain.kind != _KIND:
        raise request.refuse(f"{config.name} is not a vrf", f"but a {domain.kind or 'device'}")
    if config.table and domain.vrf_table != config.table:
        raise request.refuse(
            f"VRF {config.name} already exist with different routing table {domain.vrf_table}"
        )
    return domain.vrf_table


def _kept(socket: Socket, inside: Link) -> dict[str, object]:
    """What the interface may lose: its global IPv6 addresses with their flags, and its routes."""
    present = address.addresses(socket, inside.index, family=_INET6)
    lasting = address.NO_PREFIX_ROUTE
    return {
        "addresses": [
            {"address": str(each), "flags": each.flags & lasting | address.NODAD}
            for each in present
            if each.scope == _GLOBAL
        ],
        "routes": [routes.to_json(each) for each in routes.main(socket, inside.index)],
    }


def _create(socket: Socket, name: str, table: int) -> Link:
    batch = Batch(socket)
    batch.add(link.create_vrf(name, table, up=True), link.change(name, alias=_MARK))
    try:
        batch.commit()
    except OSError as failed:
        if failed.errno == errno.EOPNOTSUPP:
            raise CniError(
                PLUGIN_NOT_AVAILABLE, "the kernel has no vrf", str(failed), hint="load the module vrf"
            ) from None
        raise
    found = link.get(socket, name)
    if found is None:
        raise verify.damaged(f"{name} went away while it was set up")
    return found


def _move(socket: Socket, inside: Link, master: int) -> None:
    """Into the domain with that index; 0 is out of it."""
    _wait_until_taken(socket, inside)
    _enslave(socket, inside, master)


def _wait_until_taken(socket: Socket, inside: Link) -> None:
    """Wait until the kernel takes packets to the interface's addresses of IPv6, which it does a moment later.

    An address that is kept while the interface is down has to be that far before: where the kernel's work on
    it comes between down and up, it counts as done, and the route to this host never comes
    (addrconf_dad_work and fixup_permanent_addr in the kernel's net/ipv6/addrconf.c).
    """
    end = monotonic() + _PATIENCE
    while inside.is_up and not _all_taken(socket, inside.index) and monotonic() < end:
        sleep(0.0002)


def _all_taken(socket: Socket, index: int) -> bool:
    """Whether the kernel takes packets to all of the interface's global addresses that are not tried yet."""
    present = address.addresses(socket, index, family=_INET6)
    wanted = {
        f"{each.address}/128" for each in present if each.scope == _GLOBAL and not each.flags & _NOT_YET
    }
    if not wanted:
        return True
    found = route.routes(socket, family=_INET6, table=None, index=index)
    return wanted <= {each.destination for each in found if each.kind == route.LOCAL_TYPE}


def _enslave(socket: Socket, inside: Link, master: int) -> None:
    batch = Batch(socket)
    batch.add(link.change(inside.name, master=master))
    batch.commit()


def _put_back(socket: Socket, inside: Link, made: Fields, table: int) -> None:
    """Addresses first, as routes may lead through their networks. What is still there is let be."""
    batch = Batch(socket)
    batch.add(*_lost_addresses(inside.index, made, address.addresses(socket, inside.index, family=_INET6)))
    batch.add(*_lost_routes(inside.index, made, table))
    batch.commit()


def _lost_addresses(index: int, made: Fields, present: Collection[address.Address]) -> list[Message]:
    texts = {str(each) for each in present}
    return [
        address.add(index, each.string("address"), flags=each.integer("flags")).tolerating(errno.EEXIST)
        for each in made.mappings("addresses")
        if each.string("address") not in texts
    ]


def _lost_routes(index: int, made: Fields, table: int) -> list[Message]:
    """Without those that the kernel makes for addresses by itself, in the table that is theirs."""
    return [
        routes.added(index, each.values, table=table)
        for each in made.mappings("routes")
        if each.integer("protocol") != route.KERNEL
    ]


def _take_back(request: Request, namespaces: Namespaces) -> None:
    record = state.load(request, NAME)
    if record is None:
        return
    made = Fields(record)
    socket = namespaces.container
    inside = link.get(socket, made.integer("index"))
    domain = link.get(socket, made.string("vrf"))
    if inside is not None and domain is not None and inside.master == domain.index:
        _move(socket, inside, 0)
    if inside is not None:
        batch = Batch(socket)
        present = address.addresses(socket, inside.index, family=_INET6)
        batch.add(*_lost_addresses(inside.index, made, present))
        batch.add(
            *(each.tolerating(*routes.NOT_NOW) for each in _lost_routes(inside.index, made, route.MAIN))
        )
        batch.commit()
    # The first attachment makes the domain, another may be its last.
    if domain is not None and (made.boolean("created") or domain.alias == _MARK):
        _delete_empty(socket, domain)
    state.remove(request, NAME)


def _delete_empty(socket: Socket, domain: Link) -> None:
    if domain.kind == _KIND and not link.links(socket, master=domain.index):
        batch = Batch(socket)
        batch.add(link.delete(domain.name).tolerating(errno.ENODEV))
        batch.commit()


def _delete_unrecorded(request: Request) -> None:
    """DEL of what the reference plugin made, or nobody."""
    name = request.fields.string("vrfname")
    if request.netns is None or not name:
        return
    try:
        with Namespaces(request) as namespaces, chained.lock(namespaces):
            socket = namespaces.container
            domain, inside = link.get(socket, name), link.get(socket, request.ifname)
            if domain is None or domain.kind != _KIND:
                return
            if inside is not None and inside.master == domain.index:
                _move(socket, inside, 0)
                _delete_empty(socket, domain)
    except CniError as failed:
        if failed.code not in (UNKNOWN_CONTAINER, INVALID_NETNS):
            raise
