"""The iptables backends of masquerade and portmap: the reference's rules, what they do, what they leave."""

from __future__ import annotations

import os
import shutil
import subprocess
from hashlib import sha512
from typing import TYPE_CHECKING, Any

import pytest

from cni import plugin, state
from cni.attachment.reload import reload
from cni.errors import INVALID_CONFIG, PLUGIN_NOT_AVAILABLE, CniError
from cni.iptables import rules
from cni.request import Request
from linux import process

if TYPE_CHECKING:
    # The fixtures' classes live in conftest.py, which cannot be imported by name.
    Host = Node = Any

pytestmark = pytest.mark.skipif(shutil.which("iptables-restore") is None, reason="needs iptables")

DIGEST = sha512(b"net1c1").hexdigest()  # of the network and the container
SHARED = {"CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-SETMARK", "CNI-HOSTPORT-MASQ", "CNI-HOSTPORT-LOCAL"}
WEB = {
    "portMappings": [
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 8053, "containerPort": 80, "protocol": "udp"},
        {"hostPort": 8443, "containerPort": 80, "protocol": "tcp", "hostIP": "192.0.2.1"},
    ]
}


def bridge(kind: str = "bridge", **options: Any) -> dict[str, Any]:
    ranges = [[{"subnet": "10.22.0.0/24"}], [{"subnet": "fd00:22::/64"}]]
    routes = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    ipam = {"type": "host-local", "ranges": ranges, "routes": routes}
    more = {"bridge": "br0", "isGateway": True} if kind == "bridge" else {}
    return {"type": kind, **more, "ipMasq": True, "ipMasqBackend": "iptables", "ipam": ipam, **options}


def portmap(**options: Any) -> dict[str, Any]:
    return {"type": "portmap", "backend": "iptables", "capabilities": {"portMappings": True}, **options}


def saved(*, v6: bool = False) -> list[str]:
    """The chains and rules of ours, as iptables-save prints them."""
    program = "ip6tables-save" if v6 else "iptables-save"
    text = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    return [line for line in text.splitlines() if "CNI" in line]


def own_chains() -> set[str]:
    lines = [*saved(), *saved(v6=True)]
    return {line[1:].split()[0] for line in lines if line.startswith(":")} - SHARED


@pytest.mark.parametrize("kind", ["bridge", "ptp"])
def test_masquerade(host: Host, kind: str) -> None:
    outside, one, two = host.outside(), host.node("c1"), host.node("c2")
    network = host.network(bridge(kind))
    host.add(network, one)
    host.add(network, two)
    outside.serve(80, "outside")
    two.serve(80, "two")
    assert one.ask("192.0.2.2", 80) == "outside 192.0.2.1"
    assert one.ask("2001:db8::2", 80) == "outside 2001:db8::1"
    assert one.ask("10.22.0.3", 80) == "two 10.22.0.2"
    assert one.ask("fd00:22::3", 80) == "two fd00:22::2"
    assert [each for each in host.left()["tables"] if "rkt" in each] == []
    host.check(network, one)
    chain = f"CNI-{DIGEST[:24]}"
    said = '-m comment --comment "name: \\"net1\\" id: \\"c1\\""'
    assert sorted(line for line in saved() if "c1" in line) == sorted([
        f"-A POSTROUTING -s 10.22.0.2/32 {said} -j {chain}",
        f"-A {chain} -d 10.22.0.0/24 {said} -j ACCEPT",
        f"-A {chain} ! -d 224.0.0.0/4 {said} -j MASQUERADE",
    ])
    subprocess.run(["iptables", "-t", "nat", "-F", chain], check=True)
    with pytest.raises(CniError, match="masquerade rules of the attachment are missing"):
        host.check(network, one)
    one.vanish()
    for _ in range(2):
        host.delete(network, one)
    assert not [line for line in saved() if "c1" in line]
    assert two.ask("192.0.2.2", 80) == "outside 192.0.2.1"
    host.delete(network, two)
    assert own_chains() == set()
    assert not [line for line in [*saved(), *saved(v6=True)] if line.startswith("-A POSTROUTING")]


def test_two_interfaces_of_a_container_keep_their_rules(host: Host) -> None:
    outside, one = host.outside(), host.node("c1")
    network = host.network(bridge())
    host.add(network, one)
    host.add(network, one, ifname="eth1")
    outside.serve(80, "outside")
    before = saved()
    assert len([line for line in before if line.startswith("-A POSTROUTING")]) == 2
    host.delete(network, one, ifname="eth1")
    host.check(network, one)
    assert one.ask("192.0.2.2", 80) == "outside 192.0.2.1"
    host.delete(network, one)
    assert own_chains() == set()


@pytest.mark.parametrize("kind", ["bridge", "ptp"])
def test_who_reaches_a_mapped_port(host: Host, kind: str) -> None:
    outside, one, two = host.outside(), host.node("c1"), host.node("c2")
    network = host.network(bridge(kind), portmap())
    host.add(network, one, capability_args=WEB)
    host.add(network, two)
    one.serve(80, "one")
    for udp, port in ((False, 8080), (True, 8053)):
        assert outside.ask("192.0.2.1", port, udp=udp) == "one 192.0.2.2"
        assert outside.ask("2001:db8::1", port, udp=udp) == "one 2001:db8::2"
        assert two.ask("192.0.2.1", port, udp=udp).startswith("one ")
        assert one.ask("192.0.2.1", port, udp=udp).startswith("one ")
        assert host.ask("192.0.2.1", port, udp=udp).startswith("one ")
        assert host.ask("127.0.0.1", port, udp=udp).startswith("one ")
    assert outside.ask("192.0.2.1", 8443) == "one 192.0.2.2"
    with pytest.raises(ConnectionRefusedError):
        host.ask("127.0.0.1", 8443)
    # Not what is for somebody else.
    outside.serve(8080, "outside")
    assert two.ask("192.0.2.2", 8080) == "outside 192.0.2.1"
    host.check(network, one, capability_args=WEB)
    host.delete(network, one)  # the runtime forgot the mappings
    host.delete(network, one)
    with pytest.raises(ConnectionRefusedError):
        host.ask("192.0.2.1", 8080)
    host.delete(network, two)
    assert own_chains() == set()
    assert host.left()["records"] == []


def test_the_rules_are_the_references(host: Host) -> None:
    one = host.node("c1")
    network = host.network(bridge(), portmap())
    host.add(network, one, capability_args=WEB)
    lines = saved()
    chain = f"CNI-DN-{DIGEST[:21]}"
    said = '-m comment --comment "dnat name: \\"net1\\" id: \\"c1\\""'
    assert [line for line in lines if line.startswith(("-A CNI-HOSTPORT-DNAT", "-A CNI-DN-"))] == [
        f"-A {chain} -s 10.22.0.0/24 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK",
        f"-A {chain} -s 127.0.0.1/32 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK",
        f"-A {chain} -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.22.0.2:80",
        f"-A {chain} -s 10.22.0.0/24 -p udp -m udp --dport 8053 -j CNI-HOSTPORT-SETMARK",
        f"-A {chain} -s 127.0.0.1/32 -p udp -m udp --dport 8053 -j CNI-HOSTPORT-SETMARK",
        f"-A {chain} -p udp -m udp --dport 8053 -j DNAT --to-destination 10.22.0.2:80",
        f"-A {chain} -s 10.22.0.0/24 -d 192.0.2.1/32 -p tcp -m tcp --dport 8443 -j CNI-HOSTPORT-SETMARK",
        f"-A {chain} -s 127.0.0.1/32 -d 192.0.2.1/32 -p tcp -m tcp --dport 8443 -j CNI-HOSTPORT-SETMARK",
        f"-A {chain} -d 192.0.2.1/32 -p tcp -m tcp --dport 8443 -j DNAT --to-destination 10.22.0.2:80",
        f"-A CNI-HOSTPORT-DNAT -p tcp {said} -m multiport --dports 8080,8443 -j {chain}",
        f"-A CNI-HOSTPORT-DNAT -p udp {said} -m multiport --dports 8053 -j {chain}",
    ]
    for line in (
        "-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
        "-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
        '-A POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ',
        "-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE",
        '-A CNI-HOSTPORT-SETMARK -m comment --comment "CNI portfwd masquerade mark" '
        "-j MARK --set-xmark 0x2000/0x2000",
    ):
        assert lines.count(line) == 1
    host.delete(network, one)


def test_more_ports_than_one_rule_holds(host: Host) -> None:
    one = host.node("c1")
    network = host.network(bridge(), portmap(snat=False, markMasqBit=5))
    many = [{"hostPort": 9000 + n, "containerPort": 80, "protocol": "tcp"} for n in range(20)]
    host.add(network, one, capability_args={"portMappings": many})
    one.serve(80, "one")
    assert [host.ask("10.22.0.1", 9000 + n) for n in (0, 14, 15, 19)] == ["one 10.22.0.1"] * 4
    entries = [line for line in saved() if line.startswith("-A CNI-HOSTPORT-DNAT")]
    assert [line.count(",") + 1 for line in entries] == [15, 5]
    assert not [line for line in saved() if "MARK" in line]
    host.check(network, one, capability_args={"portMappings": many})
    host.delete(network, one)
    assert own_chains() == set()


def test_a_condition_and_a_chain_of_somebody_elses_for_marks(host: Host) -> None:
    outside, one = host.outside(), host.node("c1")
    subprocess.run(["iptables", "-t", "nat", "-N", "THEIRS"], check=True)
    subprocess.run(["ip6tables", "-t", "nat", "-N", "THEIRS"], check=True)
    options = {"conditionsV4": ["!", "-s", "192.0.2.2"], "externalSetMarkChain": "THEIRS"}
    # Both are of iptables alone, so nobody has to say so.
    network = host.network(bridge(), {**portmap(**options), "backend": ""})
    host.add(network, one, capability_args=WEB)
    one.serve(80, "one")
    with pytest.raises(ConnectionRefusedError):
        outside.ask("192.0.2.1", 8080)
    assert outside.ask("2001:db8::1", 8080) == "one 2001:db8::2"
    assert host.ask("192.0.2.1", 8080).startswith("one ")
    assert [line for line in saved() if line.startswith("-A CNI-DN-") and line.endswith("-j THEIRS")]
    assert not [line for line in saved() if "SETMARK" in line]
    host.check(network, one, capability_args=WEB)
    host.delete(network, one)
    assert own_chains() == set()


@pytest.mark.parametrize(
    ("first", "second"), [("iptables", "nftables"), ("nftables", "iptables"), ("iptables",) * 2]
)
def test_a_taken_port_is_an_error_whoever_has_it(host: Host, first: str, second: str) -> None:
    one, two = host.node("c1"), host.node("c2")
    networks = [host.network(bridge(), portmap(backend=backend)) for backend in (first, second)]
    mapping = {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}
    host.add(networks[0], one, capability_args=mapping)
    with pytest.raises(CniError, match="host port 8080 is already mapped: to net1/c1") as refused:
        host.add(networks[1], two, capability_args=mapping)
    assert refused.value.code == INVALID_CONFIG
    host.delete(networks[1], two)
    host.check(networks[0], one, capability_args=mapping)
    host.delete(networks[0], one)
    host.add(networks[1], two, capability_args=mapping)
    host.delete(networks[1], two)
    assert own_chains() == set()


def test_cve_2020_8558_the_hosts_loopback_is_not_reachable_from_a_neighbour(host: Host) -> None:
    one, attacker = host.node("c1"), host.node("c2")
    network = host.network(bridge(), portmap())
    host.add(network, one, capability_args=WEB)
    host.add(network, attacker)
    host.serve(9000, "host")
    attacker("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
    attacker("ip", "address", "del", "127.0.0.1/8", "dev", "lo")
    attacker(*["ip", "route", "add", "127.0.0.1", "via", "10.22.0.1", "dev", "eth0", "src", "10.22.0.3"])
    with pytest.raises(OSError, match="timed out"):
        attacker.ask("127.0.0.1", 9000, timeout=0.5)
    subprocess.run(["iptables", "-t", "raw", "-F", "CNI-HOSTPORT-LOCAL"], check=True)
    assert attacker.ask("127.0.0.1", 9000) == "host 10.22.0.3"
    with pytest.raises(CniError, match="port mappings"):
        host.check(network, one, capability_args=WEB)
    for node in (one, attacker):
        host.delete(network, node)


def test_reload_puts_back_what_iptables_restore_flushed(host: Host) -> None:
    one = host.node("c1")
    network = host.network(bridge(), portmap())
    host.add(network, one, capability_args=WEB)
    one.serve(80, "one")
    before = sorted(saved())
    assert reload() == []
    for program in ("iptables-restore", "ip6tables-restore"):
        text = b"*nat\n:PREROUTING ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT\nCOMMIT\n"
        subprocess.run([program], input=text, check=True)
    with pytest.raises(CniError):
        host.check(network, one, capability_args=WEB)
    assert reload() == ["net1 c1 eth0: bridge: masquerade", "net1 c1 eth0: portmap: port mappings"]
    assert sorted(saved()) == before
    host.check(network, one, capability_args=WEB)
    assert host.ask("127.0.0.1", 8080).startswith("one ")
    host.delete(network, one)


def test_a_change_that_meets_anothers_is_made_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(["iptables", "-t", "nat", "-N", "OLD"], check=True)
    subprocess.run(["iptables", "-t", "nat", "-A", "OLD", "-j", "RETURN"], check=True)
    run, calls = process.run, []

    def meddling(argv: list[str], **options: Any) -> Any:
        calls.append(argv[0])
        if calls == ["iptables-save", "iptables-restore"]:
            run(["iptables", "-t", "nat", "-F", "OLD"], timeout=10)
        return run(argv, **options)

    def edit(found: rules.Rules) -> None:
        found.make_chain("nat", "NEW")
        found.delete_chain("nat", "OLD")

    monkeypatch.setattr(process, "run", meddling)
    rules.change(False, edit)
    assert calls.count("iptables-restore") == 2
    now = rules.read(v6=False)
    assert now.has_chain("nat", "NEW")
    assert not now.has_chain("nat", "OLD")
    # What is wrong by itself is not tried again and again.
    calls.clear()
    with pytest.raises(CniError, match="iptables-restore failed"):
        rules.change(False, lambda found: found.append("nat", "NEW", ("-j", "NOWHERE")))
    assert calls.count("iptables-restore") == 1


def test_without_iptables_add_says_so_and_leaves_nothing(
    host: Host, nothing: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = host.node("c1")
    network = host.network(bridge())
    run = process.run

    def missing(argv: list[str], **options: Any) -> Any:
        if "tables" in argv[0]:
            raise FileNotFoundError(2, "No such file or directory", argv[0])
        return run(argv, **options)

    monkeypatch.setattr(process, "run", missing)
    with pytest.raises(CniError, match="is not installed") as refused:
        host.add(network, one)
    assert refused.value.code == PLUGIN_NOT_AVAILABLE
    assert host.left() == nothing
    for given in (portmap(), {"type": "firewall", "backend": "iptables"}):
        with pytest.raises(CniError, match="is not installed") as refused:
            plugin.perform(given["type"], Request("STATUS", {"name": "n", "cniVersion": "1.1.0", **given}))
        assert refused.value.code == PLUGIN_NOT_AVAILABLE


def test_gc_takes_what_is_not_valid(host: Host) -> None:
    one, two = host.node("c1"), host.node("c2")
    network = host.network(bridge(), portmap())
    host.add(network, one, capability_args=WEB)
    host.add(network, two)
    config = {"name": "net1", "cniVersion": "1.1.0"}
    for kind in (portmap(), bridge()):
        given = {**config, **kind, "cni.dev/valid-attachments": [{"containerID": "c2", "ifname": "eth0"}]}
        plugin.perform(kind["type"], Request("GC", given))
    assert not [line for line in saved() if "c1" in line]
    assert [each.container_id for _, each in state.every() if each.container_id == "c1"] == []
    host.check(network, two)
    host.delete(network, two)


@pytest.mark.skipif(shutil.which("iptables-legacy-save") is None, reason="needs iptables-legacy")
def test_the_iptables_of_before_nftables(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    run = process.run

    def old(argv: list[str], **options: Any) -> Any:
        return run([argv[0].replace("tables-", "tables-legacy-"), *argv[1:]], **options)

    monkeypatch.setattr(process, "run", old)
    outside, one = host.outside(), host.node("c1")
    firewall = {"type": "firewall", "backend": "iptables", "ingressPolicy": "same-bridge"}
    network = host.network(bridge(), firewall, portmap())
    try:
        host.add(network, one, capability_args=WEB)
    except CniError as refused:
        pytest.skip(f"this kernel has no tables for it: {refused.details}")
    outside.serve(80, "outside")
    one.serve(80, "one")
    assert one.ask("192.0.2.2", 80) == "outside 192.0.2.1"
    assert outside.ask("192.0.2.1", 8080) == "one 192.0.2.2"
    assert host.ask("127.0.0.1", 8080).startswith("one ")
    assert subprocess.check_output(["nft", "list", "ruleset"]) == b""
    host.check(network, one, capability_args=WEB)
    # Without a record it is found all the same, and without a program where there is nothing.
    for name in ("bridge", "portmap", "firewall"):
        state.remove(Request(config={"name": "net1"}, container_id="c1", ifname="eth0"), name)
    host.delete(network, one, capability_args=WEB)
    for program in ("iptables-legacy-save", "ip6tables-legacy-save"):
        text = subprocess.check_output([program], text=True)
        assert not [
            line for line in text.splitlines() if "c1" in line or "10.22.0.2" in line or "::2" in line
        ]
    assert own_chains() == set()


@pytest.mark.parametrize(
    "line",
    [
        'a -m comment --comment "name: \\"net1\\" id: \\"c1\\"" -j X',
        'a --comment "" -j X',
        "a --comment it's -j X",
        'a --comment "back\\\\slash" -j X',
    ],
)
def test_words_are_read_as_they_are_written(line: str) -> None:
    words = rules.split(line)
    assert words[-2:] == ["-j", "X"]
    assert rules.split(" ".join(map(rules._quoted, words))) == words


@pytest.mark.parametrize("backends", [("nftables",), ("iptables",), ("nftables", "iptables")])
def test_s24_of_many_that_ask_for_one_port_at_once_one_gets_it(host: Host, backends: tuple[str, ...]) -> None:
    one = host.node("c0")
    result = host.add(host.network(bridge()), one).to_json("1.1.0")
    mapping = {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}

    def request(number: int, command: str) -> Request:
        ips = [{"address": f"10.22.0.{10 + number}/24"}]
        backend = backends[number % len(backends)]
        given = {"name": "net1", "cniVersion": "1.1.0", **portmap(backend=backend), "runtimeConfig": mapping}
        given["prevResult"] = {**result, "ips": ips}
        return Request(command, given, container_id=f"c{number}", netns=one.netns, ifname="eth0")

    def ask(number: int) -> int:
        try:
            plugin.perform("portmap", request(number, "ADD"))
        except CniError as refused:
            return refused.code
        return 0

    asking, go = os.pipe()
    children = {}
    for number in range(1, 17):
        child = os.fork()
        if child == 0:
            os.close(go)
            os.read(asking, 1)
            os._exit(ask(number))
        children[child] = number
    os.close(go)
    os.close(asking)
    codes = {number: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child, number in children.items()}
    (winner,) = [number for number, code in codes.items() if code == 0]
    assert {code for code in codes.values() if code} == {INVALID_CONFIG}
    plugin.perform("portmap", request(winner, "CHECK"))
    assert [each.container_id for name, each in state.every() if name == "portmap"] == [f"c{winner}"]
    for number in codes:
        plugin.perform("portmap", request(number, "DEL"))
    assert "8080" not in subprocess.check_output(["nft", "list", "ruleset"], text=True)
