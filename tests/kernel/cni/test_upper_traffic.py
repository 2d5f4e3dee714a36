"""ipvlan, vlan and VLANs of a bridge in kernels that have them: who reaches whom, and what is left after."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from cni import plugin
from cni.attachment.verify import DAMAGED
from cni.errors import CniError
from cni.request import Request
from linux.netlink import link
from linux.netlink.socket import ROUTE, Socket

if TYPE_CHECKING:
    # The fixtures' classes live in conftest.py, which cannot be imported by name.
    Host = Node = Any

LAN = ["peer0", "lan0"]


def run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def need(kind: str) -> None:
    with Socket(ROUTE) as socket:
        if not link.supports(socket, kind):
            pytest.skip(f"this kernel has no {kind} links")


def need_filtering() -> None:
    words = ("ip", "link", "add", "try0", "type", "bridge", "vlan_filtering", "1")
    made = subprocess.run(words, capture_output=True, check=False)
    seen = subprocess.run(("ip", "-j", "-d", "link", "show", "try0"), capture_output=True, check=False).stdout
    subprocess.run(("ip", "link", "delete", "try0"), capture_output=True, check=False)
    if made.returncode or not json.loads(seen)[0]["linkinfo"]["info_data"].get("vlan_filtering"):
        pytest.skip("bridges of this kernel do not look at VLANs")


def lan() -> None:
    """Two ends of a wire, lan0 and peer0."""
    run("ip", "link", "add", "lan0", "type", "veth", "peer", "name", "peer0")
    run("ip", "link", "set", "lan0", "up")
    run("ip", "link", "set", "peer0", "up")


def config(host: Host, kind: str, **options: Any) -> dict[str, Any]:
    ranges = [[{"subnet": "10.22.0.0/24"}], [{"subnet": "fd00:22::/64"}]]
    ipam = {"type": "host-local", "ranges": ranges, "dataDir": str(host.leases)}
    return {"cniVersion": "1.1.0", "name": "net1", "type": kind, "ipam": ipam, **options}


def request(verb: str, given: dict[str, Any], node: Node, **more: Any) -> Any:
    more = {"container_id": node.name, "netns": node.netns, "ifname": "eth0", **more}
    return plugin.perform(given["type"], Request(verb, given, **more))


@pytest.mark.parametrize("mode", ["l2", "l3", "l3s"])
def test_ipvlans_of_one_master_reach_each_other(host: Host, mode: str) -> None:
    need("ipvlan")
    lan()
    given = config(host, "ipvlan", master="lan0", mode=mode)
    nodes = [host.node("c1"), host.node("c2")]
    results = [request("ADD", given, node) for node in nodes]
    nodes[0].serve(80, "one")
    assert nodes[1].ask("10.22.0.2", 80) == "one 10.22.0.3"
    # Not by a datagram: a kernel may need a moment until it knows a new address as its own.
    assert nodes[1].ask("fd00:22::2", 80, timeout=10) == "one fd00:22::3"
    for node, result in zip(nodes, results, strict=True):
        request("CHECK", {**given, "prevResult": result.to_json("1.1.0")}, node)
        request("DEL", given, node)
        request("DEL", given, node)
    assert host.left() == {"links": LAN, "tables": [], "records": [], "leases": []}


def test_a_vlan_reaches_who_is_in_it_and_no_other(host: Host) -> None:
    need("vlan")
    lan()
    nodes = [host.node("c1"), host.node("c2"), host.node("c3")]
    wanted = [("lan0", 5), ("peer0", 5), ("peer0", 6)]
    given = [config(host, "vlan", master=master, vlanId=vlan) for master, vlan in wanted]
    for each, node in zip(given, nodes, strict=True):
        result = request("ADD", each, node)
        request("CHECK", {**each, "prevResult": result.to_json("1.1.0")}, node)
    nodes[0].serve(80, "one")
    assert nodes[1].ask("10.22.0.2", 80) == "one 10.22.0.3"
    assert nodes[1].ask("fd00:22::2", 80, timeout=10) == "one fd00:22::3"
    with pytest.raises(OSError, match=r"timed out|No route"):
        nodes[2].ask("10.22.0.2", 80, timeout=0.5)
    nodes[2].vanish()
    request("GC", {**given[2], "cni.dev/valid-attachments": []}, nodes[1], netns=None)
    for each, node in zip(given, nodes, strict=True):
        request("DEL", each, node, netns=node.netns if node.fd >= 0 else None)
    assert host.left() == {"links": LAN, "tables": [], "records": [], "leases": []}


def test_a_bridge_keeps_vlans_apart(host: Host, nothing: dict[str, list[str]]) -> None:
    need_filtering()
    nodes = [host.node("c1"), host.node("c2"), host.node("c3")]
    given = config(host, "bridge", bridge="br0", vlan=100, isGateway=True)
    apart = {**given, "vlan": 200, "isGateway": False, "vlanTrunk": [{"minID": 5, "maxID": 7}, {"id": 9}]}
    results = [request("ADD", each, node) for each, node in zip((given, given, apart), nodes, strict=True)]
    ports = [result.interfaces[1].name for result in results]
    nodes[0].serve(80, "one")
    assert nodes[1].ask("10.22.0.2", 80) == "one 10.22.0.3"
    assert host.ask("10.22.0.2", 80) == "one 10.22.0.1"
    with pytest.raises(OSError, match=r"timed out|No route"):
        nodes[2].ask("10.22.0.2", 80, timeout=0.5)
    seen = {each["ifname"]: each["vlans"] for each in json.loads(run("bridge", "-j", "vlan", "show"))}
    assert seen[ports[0]] == [{"vlan": 100, "flags": ["PVID", "Egress Untagged"]}]
    assert [each["vlan"] for each in seen[ports[2]]] == [5, 6, 7, 9, 200]
    for each, node, result in zip((given, given, apart), nodes, results, strict=True):
        request("CHECK", {**each, "prevResult": result.to_json("1.1.0")}, node)
    run("bridge", "vlan", "delete", "vid", "6", "dev", ports[2])
    with pytest.raises(CniError, match="has lost VLAN 6") as refused:
        request("CHECK", {**apart, "prevResult": results[2].to_json("1.1.0")}, nodes[2])
    assert refused.value.code == DAMAGED
    for node in nodes:
        request("DEL", given, node)
        request("DEL", given, node)
    request("GC", {**given, "cni.dev/valid-attachments": []}, nodes[0], netns=None)
    assert host.left() == nothing
