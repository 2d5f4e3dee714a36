"""What a masquerading container sends to a group keeps its address, where this host routes groups."""

from __future__ import annotations

import shutil
import socket
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from linux import namespaces

if TYPE_CHECKING:
    from collections.abc import Iterator

    # The fixtures' classes live in conftest.py, which cannot be imported by name.
    Host = Any

# linux/mroute.h and linux/mroute6.h: switch on, add an interface, add a route.
INIT, ADD_INTERFACE, ADD_ROUTE = 200, 202, 204
BY_INDEX = 8
GROUPS = {False: "239.1.2.3", True: "ff3e::1:2:3"}


@contextmanager
def routed(source: str, incoming: str, outgoing: str) -> Iterator[None]:
    """A route for groups, from `source` on one interface to another one, as long as this lasts."""
    v6 = ":" in source
    indices = [socket.if_nametoindex(name) for name in (incoming, outgoing)]
    if v6:
        family, protocol, level = socket.AF_INET6, socket.IPPROTO_ICMPV6, socket.IPPROTO_IPV6
    else:
        family, protocol, level = socket.AF_INET, socket.IPPROTO_IGMP, socket.IPPROTO_IP
    with socket.socket(family, socket.SOCK_RAW, protocol) as router:
        try:
            router.setsockopt(level, INIT, 1)
        except OSError as refused:
            pytest.skip(f"this kernel does not route groups: {refused}")
        origin, group = (socket.inet_pton(family, each) for each in (source, GROUPS[v6]))
        for number, index in enumerate(indices):
            if v6:
                router.setsockopt(level, ADD_INTERFACE, struct.pack("HBBHxxI", number, 0, 1, index, 0))
            else:
                interface = struct.pack("HBBIiI", number, BY_INDEX, 1, 0, index, 0)
                router.setsockopt(level, ADD_INTERFACE, interface)
        if v6:
            ends = b"".join(struct.pack("HHI16sI", family, 0, 0, each, 0) for each in (origin, group))
            route = ends + struct.pack("Hxx8I", 0, 1 << 1, *[0] * 7)
        else:
            times_to_live = bytes([0, 1, *[0] * 30])
            route = origin + group + struct.pack("H", 0) + times_to_live + struct.pack("=xxIIIi", 0, 0, 0, 0)
        router.setsockopt(level, ADD_ROUTE, route)
        yield


def join(v6: bool, interface: str) -> socket.socket:
    """A socket that hears the group on an interface of the namespace that the caller is in."""
    family = socket.AF_INET6 if v6 else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_DGRAM)
    listener.bind(("", 7000))
    raw, index = socket.inet_pton(family, GROUPS[v6]), socket.if_nametoindex(interface)
    if v6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, raw + struct.pack("I", index))
    else:
        request = raw + struct.pack("4si", bytes(4), index)
        listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
    listener.settimeout(3)
    return listener


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("backend", ["nftables", "iptables"])
def test_no_masquerade_to_a_group(host: Host, backend: str, *, v6: bool) -> None:
    if backend == "iptables" and shutil.which("iptables-restore") is None:
        pytest.skip("needs iptables")
    outside, one = host.outside(), host.node("c1")
    ranges = [[{"subnet": "10.22.0.0/24"}], [{"subnet": "fd00:22::/64"}]]
    ipam = {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}
    # Not a bridge: a kernel with br_netfilter translates nothing that went through one to a group.
    network = host.network({"type": "ptp", "ipMasq": True, "ipMasqBackend": backend, "ipam": ipam})
    result = host.add(network, one)
    own = result.ips[int(v6)].address.address
    # Somebody answers outside, and sees the host's address: it does masquerade.
    outside.serve(80, "outside")
    seen = one.ask("2001:db8::2" if v6 else "192.0.2.2", 80)
    assert seen == f"outside {'2001:db8::1' if v6 else '192.0.2.1'}"
    with namespaces.inside(outside.netns):
        listener = join(v6, "eth0")
    with namespaces.inside(one.netns):
        sender = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
        if v6:
            sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 4)
            place = socket.if_nametoindex("eth0")
            sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, place)
        else:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 4)
    with listener, sender, routed(own, result.interfaces[0].name, "up0"):
        sender.sendto(b"hello", (GROUPS[v6], 7000))
        message, peer = listener.recvfrom(100)
    assert (message, peer[0]) == (b"hello", own)
    host.delete(network, one)
