"""ptp: a veth pair between container and host, each address with a route of its own, no bridge.

The container reaches even its own subnet through the host: the connected route is left out, and the host has
a route to each container and answers as the gateway on each pair.
"""

from __future__ import annotations

import errno

from cni import delegate, state
from cni.attachment import interface, masquerading, options, sysctl, teardown, verify, veth
from cni.errors import INVALID_CONFIG, PLUGIN_NOT_AVAILABLE, CniError
from cni.fields import Fields
from cni.types.address import Cidr, format_ip
from cni.types.result import Interface, IPConfig, Result
from cni.undo import Undo
from linux.netlink import address, link, route
from linux.netlink.batch import Batch

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni.attachment.veth import Namespaces, Pair
    from cni.request import Request
    from linux.netlink.wire import Request as Message

NAME = "ptp"


def add(request: Request) -> Result:
    """Make the attachment; when that fails nothing of it is left."""
    if not options.has_ipam(request):
        raise request.refuse("no plugin name provided", "ptp needs an IPAM plugin")
    backend, mtu = options.masquerade(request), options.mtu(request)
    with veth.Namespaces(request) as namespaces:
        pair = veth.plan(request, namespaces, mtu=mtu)
        if state.load(request, NAME) is not None:
            # The container has no such interface: the record is of an ADD that was killed.
            delete(request)
        made: dict[str, object] = {"veth": pair.host, "mac": pair.host_mac, "masquerade": backend}
        with Undo() as undo:
            undo.push(lambda: delete(request))
            state.save(request, NAME, made)
            return _make(request, namespaces, pair, made)


def check(request: Request) -> None:
    result = verify.previous(request)
    record = state.load(request, NAME)
    made = None if record is None else Fields(record)
    delegate.check(request)
    with veth.Namespaces(request) as namespaces:
        inside = verify.container(request, namespaces, result, None if made is None else made.strings("ips"))
        verify.routes(namespaces, result)
        host = link.get(namespaces.host, inside.peer)
        if host is None or (made is not None and host.name != made.string("veth")):
            raise verify.damaged(f"the host's end of {request.ifname} is missing")
        verify.host_end(namespaces, host.name, inside)
        present = {
            each.destination
            for family in (2, 10)
            for each in route.routes(namespaces.host, family=family, index=host.index)
        }
        for each in verify.own_ips(request, result):
            if str(each.address.host) not in present:
                raise verify.damaged(f"the host has no route to {each.address.address}")
    if made is not None and not masquerading.is_complete(request, made):
        raise verify.damaged("the masquerade rules of the attachment are missing")


def status(request: Request) -> None:
    """Code 50, or the IPAM plugin's, when an ADD would not succeed."""
    if not options.has_ipam(request):
        raise CniError(PLUGIN_NOT_AVAILABLE, "no plugin name provided", "ptp needs an IPAM plugin")
    delegate.status(request)


def delete(request: Request) -> None:
    """Take everything of the attachment away; routes and the gateway's addresses go with the interface."""
    record = state.load(request, NAME)
    if record is None:
        teardown.unrecorded(request)
        return
    made = Fields(record)
    steps = teardown.Steps()
    steps.run(lambda: masquerading.remove(request, made, steps.later))
    teardown.link_and_address(request, made, steps)
    steps.finish()
    state.remove(request, NAME)


def _make(request: Request, namespaces: Namespaces, pair: Pair, made: dict[str, object]) -> Result:
    given = delegate.add(request)
    if not given.ips:
        raise CniError(INVALID_CONFIG, "IPAM plugin returned missing IP config")
    ips = [IPConfig(each.address, gateway=each.gateway, interface=1, label=each.label) for each in given.ips]
    for each in ips:
        if each.gateway is None:
            raise CniError(INVALID_CONFIG, "IPAM plugin returned no gateway", f"for {each.address}")
    made["ips"] = [str(each.address) for each in ips]
    state.save(request, NAME, made)
    for v6 in {each.address.v6 for each in ips}:
        sysctl.enable_forwarding(v6=v6)
    veth.create(namespaces, pair)
    routes = [*_routes_inside(pair, ips), *interface.routes_of(pair.index, ips, given.routes)]
    interface.configure(namespaces, pair, ips, routes, flags=address.NO_PREFIX_ROUTE)
    _configure_host(namespaces, pair, ips)
    masquerading.add(request, str(made["masquerade"]), [each.address for each in ips])
    return Result(
        interfaces=[
            Interface(pair.host, mac=pair.host_mac),
            Interface(pair.container, mac=pair.container_mac, sandbox=request.netns or ""),
        ],
        ips=ips,
        routes=given.routes,
        dns=options.dns(request, given),
    )


def _routes_inside(pair: Pair, ips: Sequence[IPConfig]) -> list[Message]:
    """The gateway on the link, the subnet through the gateway."""
    requests = []
    for each in ips:
        gateway, own = each.gateway or b"", each.address.address
        to_gateway = route.add(
            format_ip(gateway),
            index=pair.index,
            source=own,
            scope=route.UNIVERSE if each.address.v6 else route.LINK,
        )
        requests.append(to_gateway.tolerating(errno.EEXIST))
        if each.address.length < len(each.address.packed) * 8:
            to_subnet = route.add(
                str(each.address.network), index=pair.index, gateway=format_ip(gateway), source=own
            )
            requests.append(to_subnet.tolerating(errno.EEXIST))
    return requests


def _configure_host(namespaces: Namespaces, pair: Pair, ips: Sequence[IPConfig]) -> None:
    """The host is the gateway on its end, and has a route to each of the container's addresses there."""
    host = link.get(namespaces.host, pair.host)
    if host is None:
        raise verify.damaged(f"{pair.host} went away while it was set up")
    if any(each.address.v6 for each in ips):
        sysctl.of_interface("ipv6", pair.host, "disable_ipv6", 0)
    batch = Batch(namespaces.host)
    gateways = [Cidr(each.gateway or b"", len(each.address.packed) * 8) for each in ips]
    for each in gateways:
        flags = address.NODAD if each.v6 else 0
        batch.add(address.add(host.index, str(each), flags=flags).tolerating(errno.EEXIST))
    for own in ips:
        scope = route.UNIVERSE if own.address.v6 else route.HOST
        batch.add(route.add(str(own.address.host), index=host.index, scope=scope).tolerating(errno.EEXIST))
    batch.commit()
    interface.wait_until_local(namespaces.host, gateways)
