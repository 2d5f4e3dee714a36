"""bridge with VLANs: what it asks the kernel for, which may have none, and the gateways in them."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from cni import plugin
from cni.attachment.verify import DAMAGED
from cni.errors import INVALID_CONFIG, CniError
from cni.request import Request
from fixtures.linkstandin import VlanBridges
from linux.netlink import link
from linux.netlink.socket import ROUTE, Socket

if TYPE_CHECKING:
    # The fixtures' classes live in conftest.py, which cannot be imported by name.
    Host = Node = Any

NATIVE = 6  # PVID and UNTAGGED


@pytest.fixture
def bridges(monkeypatch: pytest.MonkeyPatch) -> VlanBridges:
    return VlanBridges(monkeypatch)


def config(host: Host, **options: Any) -> dict[str, Any]:
    ranges = [[{"subnet": "10.22.0.0/24"}], [{"subnet": "fd00:22::/64"}]]
    ipam = {"type": "host-local", "ranges": ranges, "dataDir": str(host.leases)}
    base = {"cniVersion": "1.1.0", "name": "net1", "type": "bridge", "bridge": "br0", "ipam": ipam}
    return {**base, **options}


def request(verb: str, given: dict[str, Any], node: Node, **more: Any) -> Any:
    more = {"container_id": node.name, "netns": node.netns, "ifname": "eth0", **more}
    return plugin.perform("bridge", Request(verb, given, **more))


def run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def index(name: str) -> int:
    with Socket(ROUTE) as socket:
        found = link.get(socket, name)
    assert found is not None
    return found.index


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"vlan": 100}, {100: NATIVE}),
        ({"vlan": 1}, {1: NATIVE}),
        ({"vlan": 100, "preserveDefaultVlan": True}, {1: 4, 100: NATIVE}),
        ({"vlanTrunk": [{"id": 5}]}, {1: NATIVE, 5: 0}),
        ({"vlanTrunk": [{"minID": 1, "maxID": 3}]}, {1: NATIVE, 2: 0, 3: 0}),
        (
            {"vlan": 7, "vlanTrunk": [{"minID": 5, "maxID": 8}, {"id": 20}]},
            {5: 0, 6: 0, 7: NATIVE, 8: 0, 20: 0},
        ),
        ({"vlanTrunk": [{"minID": 5, "maxID": 6, "id": 20}]}, {1: NATIVE, 5: 0, 6: 0, 20: 0}),
    ],
)
def test_the_vlans_of_a_port(
    host: Host,
    nothing: dict[str, list[str]],
    bridges: VlanBridges,
    options: dict[str, Any],
    wanted: dict[int, int],
) -> None:
    node = host.node("c1")
    given = config(host, **options)
    result = request("ADD", given, node)
    assert bridges.filtering == {"br0"}
    port = index(result.interfaces[1].name)
    assert bridges.ports == {port: wanted}
    assert [each.name for each in result.interfaces] == ["br0", result.interfaces[1].name, "eth0"]
    checked = {**given, "prevResult": result.to_json("1.1.0")}
    request("CHECK", checked, node)
    for vlan in wanted.keys() - ({1} if "preserveDefaultVlan" in options else set()):
        kept = bridges.ports[port].pop(vlan)
        with pytest.raises(CniError, match=f"has lost VLAN {vlan}") as refused:
            request("CHECK", checked, node)
        assert refused.value.code == DAMAGED
        bridges.ports[port][vlan] = kept
    bridges.filtering.clear()
    with pytest.raises(CniError, match="br0 does not look at VLANs"):
        request("CHECK", checked, node)
    request("GC", {**given, "cni.dev/valid-attachments": []}, node, netns=None)
    assert host.left() == nothing


def test_the_gateway_in_a_vlan(host: Host, nothing: dict[str, list[str]], bridges: VlanBridges) -> None:
    one, two, three = host.node("c1"), host.node("c2"), host.node("c3")
    given = config(host, vlan=100, isDefaultGateway=True)
    result = request("ADD", given, one)
    request("ADD", given, two)
    other = config(host, vlan=200, isGateway=True, name="net2")
    request("ADD", {**other, "ipam": {**other["ipam"], "ranges": [[{"subnet": "10.23.0.0/24"}]]}}, three)
    seen = {each["ifname"]: each for each in json.loads(run("ip", "-j", "-d", "address"))}
    mine = [each["local"] for each in seen["br0.100"]["addr_info"] if each["scope"] == "global"]
    assert mine == ["10.22.0.1", "fd00:22::1"]
    assert [each["local"] for each in seen["br0.200"]["addr_info"] if each["scope"] == "global"] == [
        "10.23.0.1"
    ]
    assert not [each for each in seen["br0"]["addr_info"] if each["scope"] == "global"]
    assert [each.name for each in result.interfaces][::3] == ["br0", "br0.100"]
    assert result.interfaces[3].mac == seen["br0.100"]["address"]
    port = seen["br0.100"]["link"]
    assert seen[port]["master"] == "br0"
    assert bridges.ports[seen[port]["ifindex"]] == {100: NATIVE}
    host.serve(80, "host")
    assert one.ask("10.22.0.1", 80) == "host 10.22.0.2"
    assert one.ask("fd00:22::1", 80) == "host fd00:22::2"
    for name in (port, "br0.100"):
        assert run("cat", f"/proc/sys/net/ipv6/conf/{name}/accept_ra").strip() == "0"
    request("CHECK", {**given, "prevResult": result.to_json("1.1.0")}, one)
    for node in (one, two, two):
        request("DEL", given, node)
    request("DEL", other, three)
    # As the bridge, the gateways stay until GC finds that nobody needs them.
    assert sorted(each for each in host.left()["links"] if "." in each) == ["br0.100", "br0.200"]
    request("GC", {**given, "cni.dev/valid-attachments": []}, one, netns=None)
    assert host.left() == nothing


def test_of_an_add_that_fails_no_gateway_is_left(
    host: Host, nothing: dict[str, list[str]], bridges: VlanBridges
) -> None:
    one, two = host.node("c1"), host.node("c2")
    given = config(host, vlan=100, isGateway=True)
    broken = {**given, "ipam": {**given["ipam"], "routes": [{"dst": "10.9.0.0/16", "gw": "172.31.0.1"}]}}
    with pytest.raises(CniError, match="route to 10"):
        request("ADD", broken, one)
    assert host.left() == nothing
    request("ADD", given, one)
    before = host.left()
    for vlan in (100, 200):
        with pytest.raises(CniError, match="route to 10"):
            request("ADD", {**broken, "vlan": vlan}, two)
        assert host.left() == before


def test_somebody_elses_bridge(host: Host, nothing: dict[str, list[str]], bridges: VlanBridges) -> None:
    node = host.node("c1")
    run("ip", "link", "add", "br0", "type", "bridge")
    run("ip", "link", "set", "br0", "up")
    given = config(host, vlan=100, isGateway=True)
    with pytest.raises(CniError, match="hint: ip link set br0 type bridge vlan_filtering 1") as refused:
        request("ADD", given, node)
    assert refused.value.code == INVALID_CONFIG
    assert host.left() == {**nothing, "links": ["br0"]}
    bridges.filtering.add("br0")
    request("ADD", given, node)
    request("GC", {**given, "cni.dev/valid-attachments": []}, node, netns=None)
    assert host.left() == {**nothing, "links": ["br0"]}


def test_a_bridge_of_ours_without_vlans_gets_them(host: Host, bridges: VlanBridges) -> None:
    one, two = host.node("c1"), host.node("c2")
    request("ADD", config(host), one)
    assert bridges.filtering == set()
    request("ADD", config(host, vlan=100), two)
    assert bridges.filtering == {"br0"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vlan": 4095}, "vlan: 4095 is not between 0 and 4094"),
        ({"vlan": -1}, "vlan"),
        ({"vlanTrunk": [{}]}, "neither id nor minID and maxID"),
        ({"vlanTrunk": [{"minID": 1}]}, "go together"),
        ({"vlanTrunk": [{"minID": 9, "maxID": 8}]}, "minID 9 is above maxID 8"),
        ({"vlanTrunk": [{"id": 0}]}, "id: 0 is not between 1 and 4094"),
        ({"vlanTrunk": {"id": 1}}, "vlanTrunk is not a list"),
        ({"vlan": 4000, "isGateway": True, "bridge": "a-longer-name"}, "not a name for a network interface"),
    ],
)
def test_configurations_that_cannot_be(
    host: Host, nothing: dict[str, list[str]], bridges: VlanBridges, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(CniError, match=message) as refused:
        request("ADD", config(host, **options), host.node("c1"))
    assert refused.value.code == INVALID_CONFIG
    assert host.left() == nothing
