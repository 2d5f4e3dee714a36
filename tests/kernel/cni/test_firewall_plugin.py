"""firewall on nftables and on iptables: what policies let through, what CHECK sees, what is left."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from cni import plugin, state
from cni.attachment.reload import reload
from cni.errors import (
    DECODING_FAILURE,
    INVALID_CONFIG,
    LIMITED_CONNECTIVITY,
    PLUGIN_NOT_AVAILABLE,
    CniError,
)
from cni.request import Request

if TYPE_CHECKING:
    # The fixtures' classes live in conftest.py, which cannot be imported by name.
    Host = Node = Any

BACKENDS = [
    "nftables",
    pytest.param(
        "iptables",
        marks=pytest.mark.skipif(shutil.which("iptables-restore") is None, reason="needs iptables"),
    ),
]


def bridge(name: str = "br0", net: int = 22, **options: Any) -> dict[str, Any]:
    ranges = [[{"subnet": f"10.{net}.0.0/24"}], [{"subnet": f"fd00:{net}::/64"}]]
    routes = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    ipam = {"type": "host-local", "ranges": ranges, "routes": routes}
    return {"type": "bridge", "bridge": name, "isGateway": True, "ipam": ipam, **options}


def firewall(backend: str = "nftables", **options: Any) -> dict[str, Any]:
    return {"type": "firewall", "backend": backend, **options}


def run(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def ruleset() -> str:
    return run("nft", "-s", "list", "ruleset")


def reaches(node: Node, address: str) -> bool:
    try:
        return bool(node.ask(address, 80, timeout=0.4))
    except TimeoutError:
        return False


def addresses(host: Host, network: Any, node: Node) -> list[str]:
    return [each.address.address for each in host.add(network, node).ips]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("policy", ["open", "same-bridge", "isolated"])
def test_who_reaches_whom(host: Host, backend: str, policy: str) -> None:
    outside = host.outside()
    one, two, far = (host.node(name) for name in ("c1", "c2", "far"))
    here = host.network(bridge(), firewall(backend, ingressPolicy=policy))
    there = host.network(bridge("br1", 23), firewall(backend, ingressPolicy=policy), name="net2")
    own = addresses(host, here, one)
    addresses(host, here, two)
    addresses(host, there, far)
    for node in (one, outside):
        node.serve(80, node.name)
    for address in own:
        assert reaches(two, address) == (policy != "isolated")
        assert reaches(far, address) == (policy == "open")
        # The host itself, and what it forwards from outside, is not the policy's business.
        assert host.ask(address, 80).startswith("c1 ")
    outside("ip", "route", "add", "10.22.0.0/24", "via", "192.0.2.1")
    outside("ip", "route", "add", "10.23.0.0/24", "via", "192.0.2.1")
    assert reaches(outside, own[0])
    assert reaches(one, "192.0.2.2")
    assert reaches(far, "192.0.2.2")
    for network, node in ((here, one), (here, two), (there, far)):
        host.check(network, node)
    host.delete(here, one)
    host.check(here, two)
    for network, node in ((here, two), (there, far), (there, far)):
        host.delete(network, node)
    assert "rkt_firewall" not in ruleset()
    assert host.left()["records"] == []
    assert not [line for line in run("iptables-save").splitlines() if "/32" in line]


def test_a_network_without_a_policy_is_reached_from_everywhere(host: Host) -> None:
    one, far = host.node("c1"), host.node("far")
    guarded = host.network(bridge(), firewall(ingressPolicy="same-bridge"))
    plain = host.network(bridge("br1", 23), firewall(), name="net2")
    own, other = addresses(host, guarded, one), addresses(host, plain, far)
    one.serve(80, "one")
    far.serve(80, "far")
    # As with the reference: bridges with a policy are apart from each other, and from nobody else.
    assert reaches(far, own[0])
    assert reaches(one, other[0])
    for network, node in ((guarded, one), (plain, far)):
        host.delete(network, node)
    assert ruleset() == ""


@pytest.mark.skipif(shutil.which("iptables") is None, reason="needs iptables")
def test_iptables_opens_a_forward_chain_that_drops(host: Host) -> None:
    outside, one = host.outside(), host.node("c1")
    for program in ("iptables", "ip6tables"):
        run(program, "-P", "FORWARD", "DROP")
    outside.serve(80, "outside")
    outside("ip", "route", "add", "10.22.0.0/24", "via", "192.0.2.1")
    outside("ip", "route", "add", "fd00:22::/64", "via", "2001:db8::1")
    # Nobody says which backend: the one that can help is taken.
    network = host.network(bridge(), {"type": "firewall"})
    own = addresses(host, network, one)
    assert reaches(one, "192.0.2.2")
    # The host asks for its neighbour itself: for others it cannot before its link-local address is usable.
    assert host.ask("2001:db8::2", 80)
    assert reaches(one, "2001:db8::2")
    one.serve(80, "one")
    assert not reaches(outside, own[0])
    assert "rkt_firewall" not in ruleset()
    config = {"name": "net1", "cniVersion": "1.1.0", "type": "firewall"}
    plugin.perform("firewall", Request("STATUS", config))
    with pytest.raises(CniError, match="dropped by another table: FORWARD of the table filter") as limited:
        plugin.perform("firewall", Request("STATUS", {**config, "backend": "nftables"}))
    assert limited.value.code == LIMITED_CONNECTIVITY
    host.delete(network, one)
    one = host.node("c1")
    plain = host.network(bridge(), name="plain")
    host.add(plain, one)
    assert not reaches(one, "192.0.2.2")


@pytest.mark.skipif(shutil.which("iptables") is None, reason="needs iptables")
def test_the_iptables_rules_are_the_references(host: Host) -> None:
    one = host.node("c1")
    options = {"ingressPolicy": "isolated", "iptablesAdminChainName": "MINE"}
    network = host.network(bridge(), firewall("iptables", **options))
    host.add(network, one)
    said = '-m comment --comment "CNI firewall plugin rules'
    both = f'{said} (ingressPolicy: same-bridge|isolated)"'
    for program, address in (("iptables-save", "10.22.0.2/32"), ("ip6tables-save", "fd00:22::2/128")):
        assert [line for line in run(program).splitlines() if line.startswith("-A")] == [
            f"-A FORWARD {both} -j CNI-ISOLATION-STAGE-1",
            f'-A FORWARD {said}" -j CNI-FORWARD',
            '-A CNI-FORWARD -m comment --comment "CNI firewall plugin admin overrides" -j MINE',
            f"-A CNI-FORWARD -d {address} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            f"-A CNI-FORWARD -s {address} -j ACCEPT",
            f'-A CNI-ISOLATION-STAGE-1 -i br0 -o br0 {said} (ingressPolicy: isolated)" -j DROP',
            f'-A CNI-ISOLATION-STAGE-1 -i br0 ! -o br0 {said} (ingressPolicy: isolated)" '
            "-j CNI-ISOLATION-STAGE-2",
            f"-A CNI-ISOLATION-STAGE-1 {both} -j RETURN",
            f"-A CNI-ISOLATION-STAGE-2 -o br0 {both} -j DROP",
            f"-A CNI-ISOLATION-STAGE-2 {both} -j RETURN",
        ]
    host.delete(network, one)


def test_rules_of_the_administrator_go_first_and_stay(host: Host) -> None:
    one, two = host.node("c1"), host.node("c2")
    network = host.network(bridge(), firewall(ingressPolicy="same-bridge"))
    outside = host.outside()
    outside.serve(80, "outside")
    host.add(network, one)
    run("nft", "add", "rule", "inet", "rkt_firewall", "admin", "ip daddr 192.0.2.2 drop")
    assert not reaches(one, "192.0.2.2")
    host.delete(network, one)
    assert "ip daddr 192.0.2.2 drop" in ruleset()
    assert "br0" not in ruleset()
    host.add(network, two)
    assert not reaches(two, "192.0.2.2")
    host.delete(network, two)
    run("nft", "flush", "chain", "inet", "rkt_firewall", "admin")
    host.add(network, two)
    host.delete(network, two)
    assert ruleset() == ""


@pytest.mark.parametrize(
    ("backend", "command"),
    [
        ("nftables", "nft delete table inet rkt_firewall"),
        ("nftables", "nft flush map inet rkt_firewall members6"),
        ("nftables", "nft flush set inet rkt_firewall isolated"),
        ("nftables", "nft flush chain inet rkt_firewall isolated-br0"),
        ("nftables", "nft flush chain inet rkt_firewall forward"),
        ("nftables", "port"),
        ("iptables", "iptables -F CNI-FORWARD"),
        ("iptables", "ip6tables -F FORWARD"),
        ("iptables", "iptables -F CNI-ISOLATION-STAGE-1"),
        ("iptables", "port"),
    ],
)
def test_check_sees_the_damage_and_reload_mends_it(
    host: Host, nothing: dict[str, list[str]], backend: str, command: str
) -> None:
    if backend == "iptables" and shutil.which("iptables") is None:
        pytest.skip("needs iptables")
    one = host.node("c1")
    network = host.network(bridge(), firewall(backend, ingressPolicy="isolated"))
    result = host.add(network, one)
    before = sorted(ruleset().splitlines())
    host.check(network, one)
    assert reload() == []
    port = result.interfaces[1].name
    # The chain that all packets enter is made with the table alone.
    mends = not command.endswith("forward")
    run(*(f"bridge link set dev {port} isolated off" if command == "port" else command).split())
    with pytest.raises(CniError, match="firewall rules of the attachment are missing"):
        host.check(network, one)
    if mends:
        assert reload() == ["net1 c1 eth0: firewall: firewall rules"]
        host.check(network, one)
        assert sorted(ruleset().splitlines()) == before
    else:
        assert reload() == [
            "error: net1 c1 eth0: firewall: the firewall rules cannot be put back: "
            "delete the table inet rkt_firewall first"
        ]
        run("nft", "delete", "table", "inet", "rkt_firewall")
        assert reload() == ["net1 c1 eth0: firewall: firewall rules"]
    host.delete(network, one)
    assert host.left()["records"] == nothing["records"]
    assert "rkt_" not in ruleset()


@pytest.mark.parametrize(
    "options",
    [
        {"backend": "pf"},
        {"ingressPolicy": "zz"},
        {"ingressPolicy": 5},
        {"iptablesAdminChainName": "A" * 29},
        {"iptablesAdminChainName": "-j"},
        {"iptablesAdminChainName": "A\nB"},
    ],
)
def test_a_bad_configuration_is_refused_before_anything_is_made(host: Host, options: dict[str, Any]) -> None:
    one = host.node("c1")
    network = host.network(bridge(), {**firewall(), **options})
    with pytest.raises(CniError) as refused:
        host.add(network, one)
    assert refused.value.code == INVALID_CONFIG
    assert ruleset() == ""
    # And DEL is none the worse for it.
    host.delete(network, one)
    assert host.left()["records"] == []


def test_a_policy_needs_a_bridge_and_a_plugin_before(host: Host) -> None:
    one = host.node("c1")
    ptp = {key: value for key, value in bridge().items() if key not in ("bridge", "isGateway")}
    network = host.network({**ptp, "type": "ptp"}, firewall(ingressPolicy="same-bridge"))
    with pytest.raises(CniError, match="for containers on a bridge") as refused:
        host.add(network, one)
    assert refused.value.code == INVALID_CONFIG
    host.delete(network, one)
    config = {"name": "n", "cniVersion": "1.1.0", **firewall()}
    with pytest.raises(CniError, match="prevResult missing") as refused:
        plugin.perform("firewall", Request("ADD", config, container_id="c1", ifname="eth0"))
    assert refused.value.code == DECODING_FAILURE
    plugin.perform("firewall", Request("DEL", config, container_id="c1", ifname="eth0"))
    assert ruleset() == ""


def test_the_kernels_port_isolation_is_given_back_with_the_rules(host: Host) -> None:
    def isolated(port: str) -> bool:
        return bool(json.loads(run("bridge", "-j", "-d", "link", "show", "dev", port))[0]["isolated"])

    one, two = host.node("c1"), host.node("c2")
    plain = host.network(bridge())
    own = host.network(bridge(portIsolation=True))
    for node, network, after in ((one, plain, False), (two, own, True)):
        result = host.add(network, node)
        given = {"name": "net1", "cniVersion": "1.1.0", "prevResult": result.to_json("1.1.0")}
        given |= firewall(ingressPolicy="isolated")
        request = Request("ADD", given, container_id=node.name, netns=node.netns, ifname="eth0")
        plugin.perform("firewall", request)
        plugin.perform("firewall", request)
        assert isolated(result.interfaces[1].name)
        plugin.perform("firewall", request.with_config(given, command="DEL"))
        assert isolated(result.interfaces[1].name) == after
        host.delete(network, node)


def test_a_firewalld_that_is_not_there(host: Host, nothing: dict[str, list[str]]) -> None:
    one = host.node("c1")
    network = host.network(bridge(), firewall("firewalld"))
    with pytest.raises(CniError) as refused:
        host.add(network, one)
    assert refused.value.code == PLUGIN_NOT_AVAILABLE
    with pytest.raises(CniError, match="firewalld is not running") as refused:
        plugin.perform(
            "firewall", Request("STATUS", {"name": "n", "cniVersion": "1.1.0", **firewall("firewalld")})
        )
    assert refused.value.code == PLUGIN_NOT_AVAILABLE
    host.delete(network, one)
    assert host.left() == {**nothing, "links": ["br0"]}


def test_gc_takes_what_is_not_valid_with_the_namespace_gone(host: Host) -> None:
    one, two = host.node("c1"), host.node("c2")
    network = host.network(bridge(), firewall(ingressPolicy="same-bridge"))
    host.add(network, one)
    host.add(network, two)
    one.vanish()
    config = {"name": "net1", "cniVersion": "1.1.0", **firewall()}
    valid = [{"containerID": "c2", "ifname": "eth0"}]
    plugin.perform("firewall", Request("GC", {**config, "cni.dev/valid-attachments": valid}))
    assert "10.22.0.2" not in ruleset()
    assert "10.22.0.3" in ruleset()
    host.check(network, two)
    plugin.perform("firewall", Request("GC", {**config, "cni.dev/valid-attachments": []}))
    assert ruleset() == ""
    assert [name for name, _ in state.every() if name == "firewall"] == []
