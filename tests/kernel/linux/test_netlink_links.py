"""Links, addresses, routes, rules and neighbours: what we set is what iproute2 and pyroute2 see, and back."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from fixtures.failing import Failing
from linux import namespaces
from linux.netlink import address, link, neighbour, route, rule
from linux.netlink.batch import Batch
from linux.netlink.socket import NETFILTER, ROUTE, Socket, open_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def kernel(netns: Path) -> Iterator[Socket]:
    (socket,) = open_in(str(netns), ROUTE)
    with socket:
        yield socket


def do(socket: Socket, *requests: Any) -> list[Any]:
    batch = Batch(socket)
    batch.add(*requests)
    return batch.commit()


def ip(netns: Path, *words: str) -> Any:
    command = ["nsenter", f"--net={netns}", "ip", "-j", "-d", *words]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout or "[]")


def change(netns: Path, *words: str) -> None:
    subprocess.run(["nsenter", f"--net={netns}", "ip", *words], check=True)


def pyroute2(netns: Path, expression: str) -> Any:
    """The value of an expression over `ipr`, a pyroute2.IPRoute inside the namespace."""
    program = (
        "import json, warnings; warnings.simplefilter('ignore')\n"
        "from pyroute2 import IPRoute\n"
        f"with IPRoute() as ipr: print(json.dumps({expression}))\n"
    )
    command = ["nsenter", f"--net={netns}", sys.executable, "-c", program]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_a_bridge_with_a_port_into_another_namespace(netns: Path, kernel: Socket, tmp_path: Path) -> None:
    before = os.readlink("/proc/thread-self/ns/net")
    bridge = link.created(do(kernel, link.create_bridge("br0", mac="02:00:00:00:00:01", up=True))[0])
    assert bridge is None or (bridge.kind, bridge.mac) == ("bridge", "02:00:00:00:00:01")
    index = ip(netns, "link", "show", "br0")[0]["ifindex"]
    with Socket(ROUTE) as ours:
        fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            answers = do(
                kernel,
                link.create_veth(
                    "port0",
                    "inner0",
                    peer_netns=fd,
                    peer_mac="02:00:00:00:00:02",
                    mtu=1400,
                    master=index,
                    up=True,
                ),
                link.set_bridge_port("port0", hairpin=True, isolated=True, learning=False),
            )
        finally:
            os.close(fd)
        try:
            inner = link.get(ours, "inner0")
            assert inner is not None
            made = link.created(answers[0])
            assert made is None or made.peer == inner.index
            assert (inner.mac, inner.mtu, inner.kind, inner.is_up) == (
                "02:00:00:00:00:02",
                1400,
                "veth",
                False,
            )
            do(ours, link.change("inner0", up=True))
        finally:
            do(ours, link.delete("inner0").tolerating(errno.ENODEV))
    assert link.get(kernel, "port0") is None
    assert os.readlink("/proc/thread-self/ns/net") == before


def test_links_as_iproute2_sees_them(netns: Path, kernel: Socket) -> None:
    do(
        kernel,
        link.create_bridge("br0", mtu=1450),
        link.create_veth("a", "b"),
        link.create("ifb0", "ifb"),
        link.change("br0", up=True, promiscuous=True, alias="hello there"),
        link.change("b", transmit_queue=77, mac="02:00:00:00:00:09"),
    )
    bridge = link.get(kernel, "br0")
    assert bridge is not None
    # From its first port on, its MTU is the lowest of its ports.
    assert bridge.mtu == ip(netns, "link", "show", "br0")[0]["mtu"] == 1450
    do(kernel, link.change("a", master=bridge.index, up=True), link.set_bridge_port("a", hairpin=True))
    do(kernel, link.change("b", up=True))
    seen = {each["ifname"]: each for each in ip(netns, "link")}
    assert seen["br0"]["ifalias"] == "hello there"
    assert {"UP", "PROMISC"} <= set(seen["br0"]["flags"])
    assert seen["a"]["master"] == "br0"
    assert seen["a"]["linkinfo"]["info_slave_data"]["hairpin"] is True
    assert (seen["b"]["txqlen"], seen["b"]["address"]) == (77, "02:00:00:00:00:09")
    assert seen["ifb0"]["linkinfo"]["info_kind"] == "ifb"
    ours = {each.name: each for each in link.links(kernel)}
    assert set(ours) == set(seen)
    for name, each in ours.items():
        theirs = seen[name]
        assert (each.index, each.mtu, each.mac) == (theirs["ifindex"], theirs["mtu"], theirs["address"])
        assert each.kind == theirs.get("linkinfo", {}).get("info_kind", "")
        assert each.transmit_queue == theirs["txqlen"]
    assert ours["a"].hairpin
    assert not ours["a"].isolated
    assert ours["a"].peer == ours["b"].index
    assert ours["br0"].alias == "hello there"
    assert ours["lo"].operstate == "down"
    deadline = time.monotonic() + 5  # the kernel's own clock decides when a link counts as working
    while link.get(kernel, "a").operstate != "up":  # type: ignore[union-attr]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert [each.name for each in link.links(kernel, master=bridge.index)] == ["a"]
    names = pyroute2(netns, "[l.get_attr('IFLA_IFNAME') for l in ipr.get_links()]")
    assert sorted(names) == sorted(ours)


def test_rename_move_and_statistics(netns: Path, kernel: Socket) -> None:
    do(kernel, link.create_veth("a", "b", up=True), link.change("b", up=True))
    with Socket(ROUTE) as ours:
        first = link.get(kernel, "a", statistics=True)
        assert first is not None
        assert set(first.statistics) >= {"rx_packets", "tx_bytes", "rx_dropped"}
        do(kernel, link.change("a", up=False), link.rename(first.index, "renamed"))
        fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            do(kernel, link.move("renamed", fd))
        finally:
            os.close(fd)
        try:
            assert link.get(kernel, "renamed") is None
            assert link.get(ours, "renamed") is not None
        finally:
            do(ours, link.delete("renamed"))


def test_the_first_refusal_is_raised_by_its_name_and_the_rest_is_tried(kernel: Socket) -> None:
    batch = Batch(kernel)
    batch.add(
        link.create_bridge("br0"),
        link.create_bridge("br0").tolerating(errno.EEXIST),
        link.create_bridge("br0"),
        link.delete("nothing"),
        link.create_bridge("br1"),
    )
    with pytest.raises(FileExistsError, match="create bridge br0: File exists"):
        batch.commit()
    assert link.get(kernel, "br1") is not None
    assert batch.commit() == []


def test_the_kernels_own_words_are_in_the_error(kernel: Socket) -> None:
    do(kernel, link.change("lo", up=True))
    with pytest.raises(OSError, match=r"add route to 10\.9\.0\.0/16: .*\(Nexthop has invalid gateway\)"):
        do(kernel, route.add("10.9.0.0/16", gateway="192.0.2.1"))


def test_hundreds_of_requests_in_one_batch(netns: Path, kernel: Socket) -> None:
    wanted = [f"10.1.{number >> 8}.{number & 255}/32" for number in range(1000)]
    do(kernel, *[address.add(1, each) for each in wanted])
    assert {str(each) for each in address.addresses(kernel, 1, family=2)} == set(wanted)
    do(kernel, *[address.delete(1, each) for each in wanted])
    assert address.addresses(kernel, 1, family=2) == []


def test_addresses_as_iproute2_sees_them(netns: Path, kernel: Socket) -> None:
    do(kernel, link.create_veth("a", "b", up=True), link.change("b", up=True))
    index = link.get(kernel, "a").index  # type: ignore[union-attr]
    do(
        kernel,
        address.add(index, "10.1.0.2/16"),
        address.add(index, "10.2.0.1/32", scope=253),
        address.add(index, "fd00::2/64", flags=address.NODAD),
        address.add(index, "fd01::2/64", flags=address.NODAD | address.NO_PREFIX_ROUTE),
    )
    seen = {each["local"]: each for each in ip(netns, "addr", "show", "a")[0]["addr_info"]}
    assert seen["10.1.0.2"]["broadcast"] == "10.1.255.255"
    assert seen["10.2.0.1"]["scope"] == "link"
    assert seen["fd00::2"]["nodad"] is True
    assert "tentative" not in seen["fd00::2"]
    assert seen["fd01::2"]["noprefixroute"] is True
    ours = {each.address: each for each in address.addresses(kernel, index)}
    assert set(ours) == set(seen)
    assert all(ours[name].prefix_length == each["prefixlen"] for name, each in seen.items())
    assert ours["fd00::2"].flags & address.NODAD
    with pytest.raises(FileExistsError):
        do(kernel, address.add(index, "10.1.0.2/16"))
    do(kernel, address.add(index, "10.1.0.2/16", replace=True))
    do(kernel, address.delete(index, "10.1.0.2/16"))
    with pytest.raises(OSError, match="delete address") as refused:
        do(kernel, address.delete(index, "10.1.0.2/16"))
    assert refused.value.errno == errno.EADDRNOTAVAIL


def test_routes_as_iproute2_sees_them(netns: Path, kernel: Socket) -> None:
    do(kernel, link.create_veth("a", "b", up=True), link.change("b", up=True))
    index = link.get(kernel, "a").index  # type: ignore[union-attr]
    do(
        kernel,
        address.add(index, "10.1.0.2/16"),
        address.add(index, "fd00::2/64", flags=address.NODAD),
        route.add("0.0.0.0/0", gateway="10.1.0.1", mtu=1300, advmss=1200, priority=5),
        route.add("192.168.0.0/16", kind=route.BLACKHOLE),
        route.add("10.9.0.0/16", index=index, gateway="10.77.0.1", on_link=True, table=1000),
        route.add("10.8.0.0/16", index=index, source="10.1.0.2"),
        route.add("10.7.0.0/16", index=index, scope=route.HOST),
        route.add("::/0", index=index, gateway="fd00::1", mtu=1280),
    )
    main = {each["dst"]: each for each in ip(netns, "route")}
    assert main["default"]["gateway"] == "10.1.0.1"
    assert main["default"]["metrics"] == [{"mtu": 1300, "advmss": 1200}]
    assert main["default"]["metric"] == 5
    assert main["192.168.0.0/16"]["type"] == "blackhole"
    assert (main["10.8.0.0/16"]["scope"], main["10.8.0.0/16"]["prefsrc"]) == ("link", "10.1.0.2")
    assert main["10.7.0.0/16"]["scope"] == "host"
    other = ip(netns, "route", "show", "table", "1000")[0]
    assert (other["dst"], other["gateway"], other["flags"]) == ("10.9.0.0/16", "10.77.0.1", ["onlink"])
    ours = {each.destination: each for each in route.routes(kernel, family=2)}
    assert set(ours) == {dst if dst != "default" else "0.0.0.0/0" for dst in main}
    assert (ours["0.0.0.0/0"].mtu, ours["0.0.0.0/0"].advmss, ours["0.0.0.0/0"].priority) == (1300, 1200, 5)
    assert ours["0.0.0.0/0"].is_default
    assert ours["192.168.0.0/16"].kind == route.BLACKHOLE
    assert [each.destination for each in route.routes(kernel, family=2, table=1000)] == ["10.9.0.0/16"]
    sixth = {each.destination: each for each in route.routes(kernel, family=10)}
    assert (sixth["::/0"].gateway, sixth["::/0"].mtu) == ("fd00::1", 1280)
    assert route.lookup(kernel, "10.1.9.9").index == index
    assert route.lookup(kernel, "8.8.8.8").gateway == "10.1.0.1"
    with pytest.raises(ValueError, match="other family"):
        route.add("10.0.0.0/8", gateway="fd00::1")
    do(kernel, route.delete("10.8.0.0/16", index=index))
    with pytest.raises(ProcessLookupError, match="delete route"):
        do(kernel, route.delete("10.8.0.0/16", index=index))
    assert pyroute2(netns, "len(list(ipr.get_routes(family=2, table=254)))") == len(main) - 1


def test_what_is_local_and_what_cannot_be_told(
    netns: Path, kernel: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(kernel, link.change("lo", up=True))
    kinds = (route.BLACKHOLE, route.UNREACHABLE, route.PROHIBIT)
    do(kernel, *(route.add(f"10.{kind}.0.0/16", kind=kind) for kind in kinds))
    do(kernel, *(route.add(f"fd00:{kind}::/32", kind=kind) for kind in kinds))
    assert route.is_local(kernel, "127.0.0.1")
    assert route.is_local(kernel, "::1")
    for kind in (99, *kinds):
        assert not route.is_local(kernel, f"10.{kind}.0.1")
        assert not route.is_local(kernel, f"fd00:{kind}::1")
    failing = Failing(1, after=False)
    monkeypatch.setattr(Socket, "send", lambda socket, data: failing.send(socket, data))
    with pytest.raises(OSError, match="on purpose"):
        route.is_local(kernel, "127.0.0.1")


def test_a_list_of_a_table_that_does_not_exist_is_empty(kernel: Socket) -> None:
    assert route.routes(kernel, family=2, table=4321) == []
    assert route.routes(kernel, family=10, table=4321) == []


def test_several_ways_of_one_route(netns: Path, kernel: Socket) -> None:
    do(kernel, link.create_veth("a", "b", up=True), link.change("b", up=True))
    change(netns, "addr", "add", "10.1.0.2/16", "dev", "a")
    change(netns, "route", "add", "10.5.0.0/16", "nexthop", "via", "10.1.0.1", "nexthop", "via", "10.1.0.9")
    (found,) = [each for each in route.routes(kernel, family=2) if each.destination == "10.5.0.0/16"]
    assert found.gateway in ("10.1.0.1", "10.1.0.9")
    assert found.index == link.get(kernel, "a").index  # type: ignore[union-attr]


def test_rules_as_iproute2_sees_them(netns: Path, kernel: Socket) -> None:
    do(
        kernel,
        rule.add(1000, source="10.1.0.2", priority=100, mark=5, mask=0xFF),
        rule.add(100, destination="10.2.0.0/16", priority=101),
        rule.add(100, source="fd00::/64", priority=102),
    )
    seen = {each["priority"]: each for each in ip(netns, "rule")}
    assert (seen[100]["src"], seen[100]["fwmark"], seen[100]["fwmask"]) == ("10.1.0.2", "0x5", "0xff")
    assert seen[100]["table"] == "1000"
    assert (seen[101]["dst"], seen[101]["dstlen"]) == ("10.2.0.0", 16)
    ours = {each.priority: each for each in rule.rules(kernel, family=2)}
    assert set(ours) == set(seen)
    assert (ours[100].source, ours[100].table, ours[100].mark, ours[100].mask) == (
        "10.1.0.2/32",
        1000,
        5,
        255,
    )
    assert [each.source for each in rule.rules(kernel, family=10) if each.priority == 102] == ["fd00::/64"]
    do(kernel, rule.delete(100, destination="10.2.0.0/16", priority=101))
    with pytest.raises(FileNotFoundError, match="delete rule"):
        do(kernel, rule.delete(100, destination="10.2.0.0/16", priority=101))


def test_neighbours_as_iproute2_sees_them(netns: Path, kernel: Socket) -> None:
    do(kernel, link.create_bridge("br0", up=True), link.create_veth("a", "b", up=True))
    bridge, port = link.get(kernel, "br0"), link.get(kernel, "a")
    assert bridge is not None
    assert port is not None
    do(
        kernel,
        link.change("a", master=bridge.index),
        neighbour.add(bridge.index, "10.1.0.7", "02:00:00:00:00:07"),
        neighbour.add(bridge.index, "fd00::7", "02:00:00:00:00:08"),
    )
    seen = {
        each["dst"]: each["lladdr"] for each in ip(netns, "neigh", "show", "dev", "br0", "nud", "permanent")
    }
    ours = {
        each.address: each.mac
        for each in neighbour.neighbours(kernel, bridge.index)
        if each.state == neighbour.PERMANENT
    }
    assert ours == seen == {"10.1.0.7": "02:00:00:00:00:07", "fd00::7": "02:00:00:00:00:08"}
    assert port.mac in {each.mac for each in neighbour.neighbours(kernel, port.index, family=7)}
    do(kernel, neighbour.delete(bridge.index, "10.1.0.7"))
    with pytest.raises(FileNotFoundError, match="delete neighbour"):
        do(kernel, neighbour.delete(bridge.index, "10.1.0.7"))


def test_ipv4_settings_and_link_local_addresses(netns: Path, kernel: Socket) -> None:
    do(kernel, link.create_veth("a", "b"))
    do(kernel, link.set_addressing("a", link_local=False, ipv4={22: 1, 26: 1}))
    do(kernel, link.change("a", up=True), link.change("b", up=True))
    with namespaces.inside(netns):
        for name in ("arp_notify", "route_localnet"):
            with open(f"/proc/sys/net/ipv4/conf/a/{name}", encoding="ascii") as file:
                assert file.read() == "1\n"
    assert address.addresses(kernel, link.get(kernel, "a").index, family=10) == []  # type: ignore[union-attr]


def test_sockets_of_another_namespace_are_closed_when_one_cannot_be_opened(netns: Path) -> None:
    route_socket, filter_socket = open_in(str(netns), ROUTE, NETFILTER)
    with route_socket, filter_socket:
        assert [each.name for each in link.links(route_socket)] == ["lo"]
    with pytest.raises(OSError, match="Protocol not supported"):
        open_in(str(netns), ROUTE, 31)
    with pytest.raises(ValueError, match="not a namespace"):
        open_in("/proc/self/status", ROUTE)
    with pytest.raises(FileNotFoundError):
        open_in("/run/netns/none", ROUTE)


def test_messages_of_other_processes_are_not_believed(kernel: Socket, netns: Path) -> None:
    """Root may send to any netlink port: such a message must not be taken for the kernel's answer."""
    import socket as standard
    import struct

    with namespaces.inside(netns):
        forger = standard.socket(standard.AF_NETLINK, standard.SOCK_RAW, ROUTE)
    victim = kernel._socket.getsockname()[0]
    done = struct.pack("=IHHIIi", 20, 3, 2, kernel._sequence + 1, 0, 0)
    with forger:
        forger.sendto(done, (victim, 0))
        assert [each.name for each in link.links(kernel)] == ["lo"]
