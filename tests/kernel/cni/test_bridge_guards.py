"""bridge: what one container can do to another and to the host, and what the plugin's guards let through."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from cni.errors import CniError
from fixtures.bridging import bridge, links
from linux import namespaces

if TYPE_CHECKING:
    from collections.abc import Callable

    # The fixtures' classes live in conftest.py, which cannot be imported by name.
    Host = Node = Any

# Says for each address, from eth0, that it is at its own hardware address: by ARP, or by a neighbour
# advertisement and a neighbour solicitation, both with a destination option before them.
LIE = """
import fcntl, socket, struct, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
mac = fcntl.ioctl(s, 0x8927, struct.pack("256s", b"eth0"))[18:24]
everybody = socket.inet_pton(socket.AF_INET6, "ff02::1")
def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16: total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
def discovery(kind, flags, source, target, link_address):
    body = struct.pack("!BBHI", kind, 0, 0, flags) + target + bytes([link_address, 1]) + mac
    sum = checksum(source + everybody + struct.pack("!I3xB", len(body), 58) + body)
    body = bytes([58, 0, 1, 4, 0, 0, 0, 0]) + body[:2] + struct.pack("!H", sum) + body[4:]
    head = struct.pack("!IHBB", 6 << 28, len(body), 60, 255) + source + everybody
    s.send(b"\\x33\\x33\\0\\0\\0\\1" + mac + b"\\x86\\xdd" + head + body)
victim = socket.inet_pton(socket.AF_INET6, sys.argv[1])
for text in sys.argv[2:]:
    if ":" in text:
        address = socket.inet_pton(socket.AF_INET6, text)
        own = b"\\xfe\\x80" + bytes(6) + bytes((mac[0] ^ 2, *mac[1:3], 0xFF, 0xFE, *mac[3:]))
        discovery(136, 0xA0000000, own, address, 2)
        discovery(135, 0, address, victim, 1)
    else:
        ip = socket.inet_aton(text)
        arp = struct.pack("!HHBBH", 1, 0x800, 6, 4, 2) + mac + ip + mac + ip
        s.send(b"\\xff" * 6 + mac + b"\\x08\\x06" + arp)
"""


def test_cve_2020_10749_router_advertisements_of_a_container_change_nobodys_routes(host: Host) -> None:
    attacker, victim, control = host.node("c1"), host.node("c2"), host.node("control")
    # Not a gateway: a host that forwards would not believe advertisements anyway.
    network = host.network(bridge(isGateway=False))
    for node in (attacker, victim):
        host.add(network, node)

    # One that believes what it hears, to see that there was something to hear.
    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    ip("link", "add", "v0", "master", "br0", "type", "veth", "peer", "name", "eth0", "netns", control.netns)
    ip("link", "set", "v0", "up")
    with namespaces.inside(control.netns), open("/proc/sys/net/ipv6/conf/eth0/accept_dad", "w") as file:
        file.write("0")
    control("ip", "link", "set", "eth0", "up")

    def routes(node: Node | None) -> str:
        words = ["ip", "-6", "route", "show", "default"]
        return node(*words) if node is not None else subprocess.check_output(words, text=True)

    before = routes(None), routes(victim)
    _advertise(attacker, lambda: "default" in routes(control))
    assert "proto ra" in routes(control)
    assert (routes(None), routes(victim)) == before


def _advertise(node: Node, is_heard: Callable[[], bool]) -> None:
    import socket
    import struct
    import time

    with namespaces.inside(node.netns):
        sender = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        index = socket.if_nametoindex("eth0")
    with sender:
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        message = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
        deadline = time.monotonic() + 10
        while not is_heard():
            assert time.monotonic() < deadline, "not even the control heard the advertisement"
            try:
                sender.sendto(message, ("ff02::1", 0, 0, index))
            except OSError:
                pass  # no link-local address yet
            time.sleep(0.1)


def test_macspoofchk_drops_frames_from_another_address(host: Host, nothing: dict[str, list[str]]) -> None:
    one, two = host.node("c1"), host.node("c2")
    network = host.network(bridge(macspoofchk=True))
    for node in (one, two):
        host.add(network, node)
    host.serve(81, "host")
    assert one.ask("10.22.0.1", 81) == "host 10.22.0.2"
    one("ip", "link", "set", "eth0", "address", "02:00:00:00:00:99")
    with pytest.raises(OSError, match=r"timed out|route"):
        one.ask("10.22.0.1", 81, timeout=0.5)
    assert two.ask("10.22.0.1", 81) == "host 10.22.0.3"
    with pytest.raises(CniError, match="MAC address 02:00:00:00:00:99"):
        host.check(network, one)
    for node in (one, two):
        host.delete(network, node)
    assert host.left() == {**nothing, "links": ["br0"]}


@pytest.mark.parametrize("guarded", [False, True])
def test_arpspoofchk_lets_a_port_speak_for_its_own_addresses_alone(
    host: Host, nothing: dict[str, list[str]], guarded: bool
) -> None:
    one, two = host.node("c1"), host.node("c2")
    network = host.network(bridge(arpspoofchk=guarded))
    for node in (one, two):
        host.add(network, node)
    host.serve(81, "host")
    two.serve(80, "two")
    gateways = ("10.22.0.1", "fd00:22::1")

    def believed() -> list[str]:
        texts = [two("ip", "-j", "neighbour", "show", each, "dev", "eth0") for each in gateways]
        return [json.loads(each)[0]["lladdr"] for each in texts]

    for each in gateways:
        assert two.ask(each, 81).startswith("host")
    before = believed()
    one("/usr/bin/python3", "-I", "-c", LIE, "fd00:22::3", *gateways)
    # What the same port sends later arrives later.
    assert one.ask("10.22.0.3", 80) == "two 10.22.0.2"
    assert one.ask("fd00:22::3", 80) == "two fd00:22::2"
    assert believed() == (before if guarded else [links(one)["eth0"]["address"]] * 2)
    if guarded:
        host.check(network, one)
        subprocess.run(["nft", "flush", "set", "bridge", "rkt_arpspoof", "senders"], check=True)
        with pytest.raises(CniError, match="forged ARP"):
            host.check(network, one)
    for node in (one, two):
        host.delete(network, node)
    assert host.left() == {**nothing, "links": ["br0"]}


def test_isolated_ports_reach_the_host_but_not_each_other(host: Host) -> None:
    one, two = host.node("c1"), host.node("c2")
    network = host.network(bridge(portIsolation=True, hairpinMode=True))
    for node in (one, two):
        host.add(network, node)
    two.serve(80, "two")
    host.serve(81, "host")
    assert one.ask("10.22.0.1", 81) == "host 10.22.0.2"
    with pytest.raises(OSError, match=r"timed out|route"):
        one.ask("10.22.0.3", 80, timeout=0.5)
    ports = [each for each in links().values() if each.get("master") == "br0"]
    assert [each["linkinfo"]["info_slave_data"]["hairpin"] for each in ports] == [True, True]
