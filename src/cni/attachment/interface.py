"""The container's side of an attachment: addresses, routes, and that it can be used when ADD returns."""

from __future__ import annotations

import errno
from time import monotonic, sleep

from cni.attachment import sysctl
from cni.errors import INVALID_CONFIG, TRY_AGAIN_LATER, CniError
from cni.types.address import Cidr, format_ip
from cni.types.result import IPConfig, Route
from linux.netlink import address, link
from linux.netlink.batch import Batch

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from cni.attachment.veth import Namespaces
    from linux.netlink.socket import Socket
    from linux.netlink.wire import Request as Message

    class Inside(Protocol):
        """An interface in the container: its name, and its index there."""

        container: str
        index: int


# linux/ip.h
_ARP_NOTIFY = 22
_SCOPE_LINK = 253
_DAD_DEADLINE = 5.0  # seconds
_LOCAL_DEADLINE = 0.5  # seconds, of what takes half a millisecond


def configure(
    namespaces: Namespaces,
    end: Inside,
    ips: Sequence[IPConfig],
    routes: Sequence[Message],
    *,
    flags: int = 0,
    detect_duplicates: bool = False,
    announce: bool = False,
) -> None:
    """Give the container's end its addresses, bring it up and add `routes`, in one batch.

    IPv6 addresses are usable at once, as the IPAM plugin vouches for them, unless `detect_duplicates`.
    `flags` are more flags for all addresses. With `announce` IPv6 neighbours are told too when the interface
    comes up or changes its hardware address, as IPv4's always are.
    """
    from linux.namespaces import inside

    with inside(namespaces.fd):
        settings(end.container, ips, detect_duplicates=detect_duplicates)
        if announce and ips:
            sysctl.of_interface("ipv6", end.container, "ndisc_notify", 1)
    batch = Batch(namespaces.container)
    if ips:
        batch.add(link.set_addressing(end.container, ipv4={_ARP_NOTIFY: 1}))
    for each in ips:
        own = flags
        if each.address.v6 and not detect_duplicates:
            own |= address.NODAD
        batch.add(address.add(end.index, str(each.address), flags=own))
    batch.add(link.change(end.container, up=True))
    batch.add(*routes)
    batch.commit()
    if detect_duplicates and any(each.address.v6 for each in ips):
        _wait_for_detection(namespaces, end)
    wait_until_local(namespaces.container, [each.address for each in ips])


def bring_up(namespaces: Namespaces, end: Inside) -> None:
    """The container's end up without an address, for an IPAM plugin that asks the network for one."""
    from linux.namespaces import inside

    with inside(namespaces.fd):
        sysctl.of_interface("ipv6", end.container, "accept_ra", 0)
    batch = Batch(namespaces.container)
    batch.add(link.change(end.container, up=True))
    batch.commit()


def settings(interface: str, ips: Sequence[IPConfig], *, detect_duplicates: bool) -> None:
    """Kernel settings of the interface, from inside its namespace, before it is up.

    With addresses from an IPAM plugin, what a neighbour advertises as a router is not believed: in the
    container no less than on the host (CVE-2020-10749).
    """
    if not ips:
        return
    sysctl.of_interface("ipv6", interface, "accept_ra", 0)
    if detect_duplicates:
        sysctl.of_interface("ipv6", interface, "enhanced_dad", 1)
    sysctl.of_interface("ipv6", interface, "accept_dad", int(detect_duplicates))
    if any(each.address.v6 for each in ips):
        sysctl.of_interface("ipv6", "lo", "disable_ipv6", 0)
        sysctl.of_interface("ipv6", interface, "disable_ipv6", 0)
        sysctl.of_interface("ipv6", interface, "keep_addr_on_down", 1)


def routes_of(index: int, ips: Sequence[IPConfig], routes: Sequence[Route]) -> list[Message]:
    """Requests for the result's routes; one without a gateway goes to the first of its family's."""
    if not routes:
        return []
    from linux.netlink import route

    gateways: dict[bool, bytes] = {}
    for ip in ips:
        if ip.gateway:
            gateways.setdefault(ip.address.v6, ip.gateway)
    requests = []
    for each in dict.fromkeys(routes):
        gateway = each.gw
        if gateway is None and each.scope != _SCOPE_LINK:
            gateway = gateways.get(each.dst.v6)
        request = route.add(
            str(each.dst.network),
            index=index,
            gateway=format_ip(gateway) if gateway else None,
            scope=each.scope,
            table=each.table,
            priority=each.priority,
            mtu=each.mtu,
            advmss=each.advmss,
            append=True,
        )
        requests.append(request.tolerating(errno.EEXIST))
    return requests


def first_address(subnet: Cidr) -> bytes:
    """The first address of a subnet after its own: where a gateway is when nobody says otherwise."""
    network = subnet.network
    number = int.from_bytes(network.packed, "big") + 1
    return number.to_bytes(len(network.packed), "big")


def wait_until_forwarding(namespaces: Namespaces, port: str, deadline: float) -> None:
    """Wait until the bridge passes packets of its `port`; CniError after `deadline` seconds."""
    end = monotonic() + deadline
    pause = 0.0005
    while True:
        found = link.get(namespaces.host, port)
        if found is not None and found.is_forwarding and found.operstate == "up":
            return
        if found is None or monotonic() > end:
            state = "gone" if found is None else found.operstate
            raise CniError(TRY_AGAIN_LATER, f"the bridge port {port} did not come up", f"it is {state}")
        sleep(pause)
        pause = min(pause * 2, 0.05)


def wait_until_local(socket: Socket, addresses: Sequence[Cidr]) -> None:
    """Wait until packets to these new addresses are taken: for IPv6 the kernel sees to that a moment later.

    Until then what the namespace sends to itself, and what arrives, finds no one. Not for ever: where the
    rules for routes are somebody else's it may never look so.
    """
    end = monotonic() + _LOCAL_DEADLINE
    for each in addresses:
        if each.v6:
            from linux.netlink import route

            while not route.is_local(socket, each.address) and monotonic() < end:
                sleep(0.0002)


def _wait_for_detection(namespaces: Namespaces, end: Inside) -> None:
    deadline = monotonic() + _DAD_DEADLINE
    while True:
        found = address.addresses(namespaces.container, end.index, family=10)
        for each in found:
            if each.flags & address.DAD_FAILED:
                raise CniError(INVALID_CONFIG, f"{each.address} is in use by somebody else in the network")
        if not any(each.flags & address.TENTATIVE for each in found):
            return
        if monotonic() > deadline:
            late = f"in {_DAD_DEADLINE} s"
            raise CniError(TRY_AGAIN_LATER, "duplicate address detection did not finish", late)
        sleep(0.05)
