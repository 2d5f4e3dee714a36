"""portmap: who reaches a mapped port and who must not, taken ports, what stays when it fails, stale flows."""

from __future__ import annotations

import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from cni import plugin, state
from cni.errors import INVALID_CONFIG, UNSUPPORTED_FIELD, CniError
from cni.request import Request
from linux import namespaces
from linux.netlink import conntrack
from linux.netlink.socket import NETFILTER, Socket

if TYPE_CHECKING:
    # The fixtures' classes live in conftest.py, which cannot be imported by name.
    Host = Node = Any

PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}


def bridge() -> dict[str, Any]:
    ranges = [[{"subnet": "10.22.0.0/24"}], [{"subnet": "fd00:22::/64"}]]
    routes = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    ipam = {"type": "host-local", "ranges": ranges, "routes": routes}
    return {"type": "bridge", "bridge": "br0", "isGateway": True, "ipMasq": True, "ipam": ipam}


def ptp() -> dict[str, Any]:
    without = {key: value for key, value in bridge().items() if key not in ("bridge", "isGateway")}
    return {**without, "type": "ptp"}


def ports(*mappings: tuple[int, int, str, str]) -> dict[str, object]:
    """Capability arguments from (host port, container port, protocol, host address)."""
    found = [
        {"hostPort": outer, "containerPort": inner, "protocol": protocol, **({"hostIP": at} if at else {})}
        for outer, inner, protocol, at in mappings
    ]
    return {"portMappings": found}


WEB = ports((8080, 80, "tcp", ""), (8053, 80, "udp", ""))


def read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read().strip()


@pytest.mark.parametrize("kind", [bridge, ptp])
def test_who_reaches_a_mapped_port(host: Host, nothing: dict[str, list[str]], kind: Any) -> None:
    outside, one, two = host.outside(), host.node("c1"), host.node("c2")
    network = host.network(kind(), PORTMAP)
    host.add(network, one, capability_args=WEB)
    host.add(network, two)
    one.serve(80, "one")
    for udp, port in ((False, 8080), (True, 8053)):
        # From outside, who sees it as it is; in both families.
        assert outside.ask("192.0.2.1", port, udp=udp) == "one 192.0.2.2"
        assert outside.ask("2001:db8::1", port, udp=udp) == "one 2001:db8::2"
        # From a neighbour, over every address of the host.
        for address in ("192.0.2.1", "10.22.0.1", "2001:db8::1", "fd00:22::1"):
            assert two.ask(address, port, udp=udp).startswith("one ")
        # From the container itself.
        for address in ("192.0.2.1", "2001:db8::1"):
            assert one.ask(address, port, udp=udp).startswith("one ")
        # From the host, 127.0.0.1 included.
        for address in ("192.0.2.1", "10.22.0.1", "127.0.0.1", "2001:db8::1"):
            assert host.ask(address, port, udp=udp).startswith("one ")
    # And still under its own.
    assert two.ask("10.22.0.2", 80) == "one 10.22.0.3"
    host.check(network, one, capability_args=WEB)
    host.delete(network, one, capability_args=WEB)
    with pytest.raises(ConnectionRefusedError):
        outside.ask("192.0.2.1", 8080)
    host.delete(network, two)
    assert [each for each in host.left()["links"] if each not in ("up0", "br0")] == []
    assert {**host.left(), "links": []} == nothing


def test_ghsa_jv3w_x3r3_g6rm_cve_2025_67499_what_is_for_another_machine_is_left_alone(host: Host) -> None:
    outside, one, two = host.outside(), host.node("c1"), host.node("c2")
    network = host.network(bridge(), PORTMAP)
    host.add(network, one, capability_args=WEB)
    host.add(network, two)
    one.serve(80, "one")
    outside.serve(8080, "outside")
    # Through this host, to the same port of somebody else: as if nothing were mapped.
    assert two.ask("192.0.2.2", 8080) == "outside 192.0.2.1"
    assert two.ask("2001:db8::2", 8080) == "outside 2001:db8::1"
    assert host.ask("192.0.2.2", 8080) == "outside 192.0.2.1"


def test_cve_2020_8558_the_hosts_loopback_is_not_reachable_from_a_neighbour(host: Host) -> None:
    one, attacker = host.node("c1"), host.node("c2")
    network = host.network(bridge(), PORTMAP)
    host.add(network, one, capability_args=WEB)
    host.add(network, attacker)
    host.serve(9000, "host")
    with namespaces.inside(attacker.netns), open("/proc/sys/net/ipv4/conf/all/route_localnet", "w") as file:
        file.write("1")
    for command in (
        "ip address del 127.0.0.1/8 dev lo",
        "ip route add 127.0.0.1 via 10.22.0.1 dev eth0 src 10.22.0.3",
    ):
        attacker(*command.split())
    assert read("/proc/sys/net/ipv4/conf/br0/route_localnet") == "1"
    with pytest.raises(OSError, match="timed out"):
        attacker.ask("127.0.0.1", 9000, timeout=0.5)
    # Without the rule that forbids it, it would be.
    subprocess.run(["nft", "flush", "chain", "inet", "rkt_portmap", "localnet_guard"], check=True)
    assert attacker.ask("127.0.0.1", 9000) == "host 10.22.0.3"


def test_the_loopback_is_shut_before_its_guard_goes(host: Host) -> None:
    one = host.node("c1")
    network = host.network(bridge(), PORTMAP)
    host.add(network, one, capability_args=WEB)
    assert read("/proc/sys/net/ipv4/conf/br0/route_localnet") == "1"
    host.delete(network, one, capability_args=WEB)
    assert read("/proc/sys/net/ipv4/conf/br0/route_localnet") == "0"


def test_a_mapping_at_one_address(host: Host) -> None:
    outside, one = host.outside(), host.node("c1")
    network = host.network(bridge(), PORTMAP)
    at_one = ports(
        (8080, 80, "tcp", "192.0.2.1"), (8081, 80, "tcp", "2001:db8::1"), (8082, 80, "tcp", "127.0.0.1"),
        # One and the same container may have the port at every address, too: the more precise goes first.
        (8080, 81, "tcp", ""),
    )  # fmt: skip
    host.add(network, one, capability_args=at_one)
    one.serve(80, "precise")
    one.serve(81, "any")
    assert outside.ask("192.0.2.1", 8080) == "precise 192.0.2.2"
    assert outside.ask("2001:db8::1", 8081) == "precise 2001:db8::2"
    assert outside.ask("2001:db8::1", 8080) == "any 2001:db8::2"
    assert host.ask("127.0.0.1", 8080).startswith("any ")
    assert host.ask("127.0.0.1", 8082).startswith("precise ")
    for port in (8081, 8082):
        with pytest.raises(ConnectionRefusedError):
            outside.ask("192.0.2.1", port)


def test_a_port_at_every_address_and_at_one_are_one_port(host: Host, nothing: dict[str, list[str]]) -> None:
    one, two, three = (host.node(f"c{number}") for number in (1, 2, 3))
    network = host.network(bridge(), PORTMAP)
    everywhere, here = ports((8080, 80, "tcp", "")), ports((8080, 80, "tcp", "127.0.0.1"))
    elsewhere, other = ports((8080, 80, "tcp", "127.0.0.2")), ports((8080, 80, "udp", ""))

    def refused(node: Node, mapping: dict[str, object], *owners: str) -> None:
        with pytest.raises(CniError, match=r"host port 8080.* already mapped") as error:
            host.add(network, node, capability_args=mapping)
        assert error.value.code == INVALID_CONFIG
        assert error.value.details in [f"to {owner}" for owner in owners]
        host.delete(network, node)

    host.add(network, one, capability_args=everywhere)
    refused(two, here, "net1/c1/eth0")
    host.add(network, two, capability_args=other)
    host.delete(network, one, capability_args=everywhere)
    host.delete(network, two, capability_args=other)

    host.add(network, one, capability_args=here)
    host.add(network, two, capability_args=elsewhere)
    refused(three, everywhere, "net1/c1/eth0", "net1/c2/eth0")
    host.delete(network, one, capability_args=here)
    refused(three, everywhere, "net1/c2/eth0")
    host.delete(network, two, capability_args=elsewhere)
    host.add(network, three, capability_args=everywhere)
    host.delete(network, three, capability_args=everywhere)
    assert host.left() == {**nothing, "links": ["br0"]}


def test_a_dead_owners_port_at_one_address_is_free_for_every_address(host: Host) -> None:
    one, two = host.node("c1"), host.node("c2")
    network = host.network(bridge(), PORTMAP)
    host.add(network, one, capability_args=ports((8080, 80, "tcp", "127.0.0.1")))
    state.remove(Request(config={"name": "net1"}, container_id="c1", ifname="eth0"), "portmap")
    host.add(network, two, capability_args=ports((8080, 80, "tcp", "")))
    two.serve(80, "two")
    assert host.ask("127.0.0.1", 8080).startswith("two ")


@pytest.mark.parametrize(
    ("words", "words6"),
    [
        (["ip", "saddr", "!=", "192.0.2.2"], ["ip6", "saddr", "!=", "2001:db8::2"]),
        (["iifname", "!=", '"up0"'], ["iifname", "!=", '"up0"']),
    ],
)
def test_a_condition_leaves_alone_what_does_not_meet_it(
    host: Host, nothing: dict[str, list[str]], words: list[str], words6: list[str]
) -> None:
    outside, one, two = host.outside(), host.node("c1"), host.node("c2")
    conditions = {"conditionsV4": words, "conditionsV6": words6}
    network = host.network(bridge(), {**PORTMAP, **conditions})
    mapping = ports((8080, 80, "tcp", ""), (8081, 80, "tcp", "192.0.2.1"))
    host.add(network, one, capability_args=mapping)
    host.add(network, two, capability_args=ports((8082, 80, "tcp", "")))
    one.serve(80, "one")
    host.serve(8080, "host")
    assert outside.ask("192.0.2.1", 8080) == "host 192.0.2.2"
    assert outside.ask("2001:db8::1", 8080) == "host 2001:db8::2"
    with pytest.raises(ConnectionRefusedError):
        outside.ask("192.0.2.1", 8081)
    assert two.ask("192.0.2.1", 8081).startswith("one ")
    assert two.ask("2001:db8::1", 8080).startswith("one ")
    # One chain for each condition, however many have it.
    listed = subprocess.check_output(["nft", "list", "table", "inet", "rkt_portmap"], text=True)
    assert listed.count("chain when4-") == listed.count("chain when6-") == 1
    host.check(network, one, capability_args=mapping)
    (chain,) = [line.split()[1] for line in listed.splitlines() if "chain when4-" in line]
    subprocess.run(["nft", "flush", "chain", "inet", "rkt_portmap", chain], check=True)
    with pytest.raises(CniError, match="port mappings of the attachment are missing"):
        host.check(network, one, capability_args=mapping)
    host.delete(network, one)
    host.delete(network, two)
    left = host.left()
    assert {**left, "links": []} == nothing


@pytest.mark.parametrize("few", [0, 500])
def test_a_tcp_connection_of_a_mapping_that_nobody_took_back_ends(
    host: Host, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr("cni.plugins.portmap._FEW_FOR_A_QUESTION", few)
    outside, one, two = host.outside(), host.node("c1"), host.node("c2")
    network = host.network(bridge(), PORTMAP)
    mapping = ports((8080, 80, "tcp", ""))
    host.add(network, one, capability_args=mapping)
    one.serve(80, "one")
    assert outside.ask("192.0.2.1", 8080) == "one 192.0.2.2"
    host.serve(8081, "host")
    assert outside.ask("192.0.2.1", 8081) == "host 192.0.2.2"
    # Killed by force: neither DEL nor GC came.
    state.remove(Request(config={"name": "net1"}, container_id="c1", ifname="eth0"), "portmap")
    with Socket(NETFILTER) as kernel:
        assert len(conntrack.flows(kernel, family=2, answerer="10.22.0.2")) == 1
        host.add(network, two, capability_args=ports((8080, 80, "tcp", ""), (8081, 80, "tcp", "")))
        assert conntrack.flows(kernel, family=2, answerer="10.22.0.2") == []
        # What goes to this host itself goes on.
        assert len(conntrack.flows(kernel, family=2, answerer="192.0.2.1")) == 1


def test_a_taken_port_is_an_error_and_free_again_after_del(host: Host, nothing: dict[str, list[str]]) -> None:
    outside, one, two = host.outside(), host.node("c1"), host.node("c2")
    network = host.network(bridge(), PORTMAP)
    host.add(network, one, capability_args=WEB)
    one.serve(80, "one")
    two.serve(80, "two")
    with pytest.raises(CniError, match="host port 8080 is already mapped: to net1/c1/eth0") as refused:
        host.add(network, two, capability_args=WEB)
    assert refused.value.code == INVALID_CONFIG
    host.delete(network, two, capability_args=WEB)
    assert outside.ask("192.0.2.1", 8080) == "one 192.0.2.2"
    host.delete(network, one, capability_args=WEB)
    host.add(network, two, capability_args=WEB)
    assert outside.ask("192.0.2.1", 8080) == "two 192.0.2.2"
    host.delete(network, two, capability_args=WEB)
    assert {**host.left(), "links": []} == nothing


def test_the_port_of_a_container_that_is_gone_is_not_taken(host: Host) -> None:
    """Its record went with /run at a reboot, or by force; its element did not."""
    one, two = host.node("c1"), host.node("c2")
    network = host.network(bridge(), PORTMAP)
    host.add(network, one, capability_args=WEB)
    for name in ("portmap", "bridge"):
        state.remove(Request(config={"name": "net1"}, container_id="c1", ifname="eth0"), name)
    host.add(network, two, capability_args=WEB)
    two.serve(80, "two")
    assert host.ask("10.22.0.1", 8080).startswith("two ")


@pytest.mark.parametrize(
    ("options", "seen"), [({"snat": False}, "192.0.2.2"), ({"masqAll": True}, "10.22.0.1")]
)
def test_whose_address_the_container_sees(host: Host, options: dict[str, Any], seen: str) -> None:
    outside, one = host.outside(), host.node("c1")
    network = host.network(bridge(), {**PORTMAP, **options})
    host.add(network, one, capability_args=WEB)
    one.serve(80, "one")
    assert outside.ask("192.0.2.1", 8080) == f"one {seen}"
    if options == {"snat": False}:
        assert read("/proc/sys/net/ipv4/conf/br0/route_localnet") == "0"
    host.check(network, one, capability_args=WEB)
    host.delete(network, one, capability_args=WEB)
    assert host.left()["tables"] == []


def test_flows_from_before_a_mapping_follow_it_and_those_to_a_dead_container_end(host: Host) -> None:
    outside, one, two = host.outside(), host.node("c1"), host.node("c2")
    network = host.network(bridge(), PORTMAP)
    # A client that sends from one and the same port all the time, as resolvers and loggers do.
    with namespaces.inside(outside.netns):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with client:
        client.settimeout(2)
        client.connect(("192.0.2.1", 8053))
        # Something must track connections before the first mapping: a masquerading network does.
        host.add(network, two)
        client.send(b"?")
        with pytest.raises(ConnectionRefusedError):
            client.recv(100)
        host.add(network, one, capability_args=WEB)
        one.serve(80, "one")
        client.send(b"?")
        assert client.recv(100) == b"one 192.0.2.2"
        with Socket(NETFILTER) as kernel:
            assert len(conntrack.flows(kernel, family=2, answerer="10.22.0.3")) == 1
            host.delete(network, one, capability_args=WEB)
            assert conntrack.flows(kernel, family=2, answerer="10.22.0.3") == []
        three = host.node("c3")
        host.add(network, three, capability_args=WEB)
        three.serve(80, "three")
        client.send(b"?")
        assert client.recv(100) == b"three 192.0.2.2"


@pytest.mark.parametrize(
    ("options", "mappings", "code"),
    [
        ({"markMasqBit": 32}, WEB, INVALID_CONFIG),
        ({"markMasqBit": 5, "externalSetMarkChain": "X"}, WEB, INVALID_CONFIG),
        ({"snat": "yes"}, WEB, INVALID_CONFIG),
        ({"backend": "nftables", "externalSetMarkChain": "X"}, WEB, UNSUPPORTED_FIELD),
        ({"backend": "magic"}, WEB, INVALID_CONFIG),
        ({"backend": "nftables", "conditionsV4": ["-d", "1.2.3.4"]}, WEB, INVALID_CONFIG),
        ({"backend": "iptables", "conditionsV4": ["ip", "daddr", "1.2.3.4"]}, WEB, INVALID_CONFIG),
        (
            {"conditionsV4": ["ip", "daddr", "1.2.3.4"], "conditionsV6": ["!", "-d", "::1"]},
            WEB,
            INVALID_CONFIG,
        ),
        ({"conditionsV4": ["ip", "daddr", "nonsense!"]}, WEB, INVALID_CONFIG),
        ({"conditionsV4": ["ip", "daddr", "1.2.3.4", ";", "flush", "ruleset"]}, WEB, INVALID_CONFIG),
        ({"conditionsV4": ["ip saddr 1.2.3.4\nflush ruleset"]}, WEB, INVALID_CONFIG),
        ({"conditionsV4": ["-d", "1.2.3.4", "-j", "ACCEPT"]}, WEB, INVALID_CONFIG),
        ({"conditionsV4": ["-d", "1.2.3.4\nCOMMIT"]}, WEB, INVALID_CONFIG),
        ({}, ports((0, 80, "tcp", "")), INVALID_CONFIG),
        ({}, ports((8080, 0, "tcp", "")), INVALID_CONFIG),
        ({}, ports((65536, 80, "tcp", "")), INVALID_CONFIG),
        ({}, ports((8080, 80, "icmp", "")), INVALID_CONFIG),
        ({}, ports((8080, 80, "tcp", "localhost")), INVALID_CONFIG),
        ({}, ports((8080, 80, "tcp", ""), (8080, 81, "TCP", "")), INVALID_CONFIG),
        ({}, {"portMappings": "8080:80"}, INVALID_CONFIG),
    ],
)
def test_nothing_is_left_of_an_add_that_fails(
    host: Host, nothing: dict[str, list[str]], options: dict[str, Any], mappings: Any, code: int
) -> None:
    node = host.node("c1")
    network = host.network(bridge(), {**PORTMAP, **options})
    with pytest.raises(CniError) as refused:
        host.add(network, node, capability_args=mappings)
    assert refused.value.code == code
    assert "table inet rkt_portmap" not in host.left()["tables"]
    plain = host.network(bridge(), PORTMAP)
    host.delete(plain, node)
    assert host.left() == {**nothing, "links": ["br0"]}


def test_a_mapping_without_hostport_is_refused_as_such(host: Host) -> None:
    config = {"name": "n", "cniVersion": "1.1.0", **PORTMAP}
    config["runtimeConfig"] = {"portMappings": [{"containerPort": 80}]}
    with pytest.raises(CniError, match="hostPort and containerPort"):
        plugin.perform("portmap", Request("ADD", config, container_id="c1", ifname="eth0"))


def test_without_mappings_the_result_passes_through(host: Host) -> None:
    node = host.node("c1")
    network = host.network(bridge(), PORTMAP)
    result = host.add(network, node)
    assert [str(each.address) for each in result.ips] == ["10.22.0.2/24", "fd00:22::2/64"]
    assert host.left()["tables"] == ["table inet rkt_masquerade"]
    host.check(network, node)
    host.delete(network, node)


def test_del_without_what_the_runtime_forgot_and_twice(host: Host, nothing: dict[str, list[str]]) -> None:
    node = host.node("c1")
    network = host.network(bridge(), PORTMAP)
    host.add(network, node, capability_args=WEB)
    node.vanish()
    host.delete(network, node)  # no port mappings given
    host.delete(network, node)
    assert host.left() == {**nothing, "links": ["br0"]}


@pytest.mark.parametrize(
    "command",
    [
        "nft delete table inet rkt_portmap",
        "nft delete element inet rkt_portmap ports4 { tcp . 8080 }",
        "nft flush map inet rkt_portmap targets6",
    ],
)
def test_check_sees_the_damage_and_del_still_works(
    host: Host, nothing: dict[str, list[str]], command: str
) -> None:
    node = host.node("c1")
    network = host.network(bridge(), PORTMAP)
    host.add(network, node, capability_args=WEB)
    host.check(network, node, capability_args=WEB)
    subprocess.run(command.split(), check=True)
    with pytest.raises(CniError, match="port mappings of the attachment are missing"):
        host.check(network, node, capability_args=WEB)
    host.delete(network, node, capability_args=WEB)
    assert host.left() == {**nothing, "links": ["br0"]}


def test_gc_takes_the_mappings_of_what_is_not_valid(host: Host) -> None:
    nodes = [host.node(f"c{number}") for number in (1, 2)]
    network = host.network(bridge(), PORTMAP)
    for number, node in enumerate(nodes):
        host.add(network, node, capability_args=ports((8080 + number, 80, "tcp", "")))
    config = {"name": "net1", "cniVersion": "1.1.0", **PORTMAP}
    valid = [{"containerID": "c2", "ifname": "eth0"}]
    plugin.perform("portmap", Request("GC", {**config, "cni.dev/valid-attachments": valid}))
    listed = subprocess.check_output(["nft", "list", "map", "inet", "rkt_portmap", "ports4"], text=True)
    assert "8081" in listed
    assert "8080" not in listed
    plugin.perform("portmap", Request("GC", {**config, "cni.dev/valid-attachments": []}))
    assert "table inet rkt_portmap" not in host.left()["tables"]


def test_long_names_are_told_apart_in_comments(host: Host, nothing: dict[str, list[str]]) -> None:
    network = host.network(bridge(), PORTMAP, name="n" * 100)
    nodes = [host.node("a" * 64 + end) for end in "xy"]
    for number, node in enumerate(nodes):
        host.add(network, node, capability_args=ports((8080 + number, 80, "tcp", "")))
    with pytest.raises(CniError, match="already mapped"):
        host.add(network, host.node("another"), capability_args=ports((8080, 80, "tcp", "")))
    for node in (*nodes, host.node("another")):
        host.delete(network, node)
    assert host.left() == {**nothing, "links": ["br0"]}


def test_an_add_that_comes_again_leaves_nothing_of_the_one_before(host: Host) -> None:
    node = host.node("c1")
    result = host.add(host.network(bridge()), node).to_json("1.1.0")
    given = {"name": "net1", "cniVersion": "1.1.0", **PORTMAP, "prevResult": result}

    def mapped(port: int) -> str:
        config = {**given, "runtimeConfig": ports((port, 80, "tcp", ""))}
        request = Request("ADD", config, container_id="c1", netns=node.netns, ifname="eth0")
        plugin.perform("portmap", request)
        return subprocess.check_output(["nft", "list", "table", "inet", "rkt_portmap"], text=True)

    assert "8080" in mapped(8080)
    again = mapped(8081)
    assert "8081" in again
    assert "8080" not in again
    plugin.perform("portmap", Request("DEL", given, container_id="c1", netns=node.netns, ifname="eth0"))
    assert "table inet rkt_portmap" not in host.left()["tables"]


def test_a_mapping_for_a_family_that_the_container_has_not_is_passed_over(host: Host) -> None:
    node = host.node("c1")
    ipam = {"type": "host-local", "subnet": "10.22.0.0/24"}
    network = host.network({"type": "bridge", "bridge": "br0", "isGateway": True, "ipam": ipam}, PORTMAP)
    for at in ("::", "2001:db8::1"):
        mapping = ports((8080, 80, "tcp", at))
        host.add(network, node, capability_args=mapping)
        assert host.left()["tables"] == []
        host.check(network, node, capability_args=mapping)
        host.delete(network, node, capability_args=mapping)
