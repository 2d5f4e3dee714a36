"""ptp: addresses with routes of their own, masquerade, what is left when it fails, CHECK, DEL and GC."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from cni import plugin
from cni.errors import INVALID_CONFIG, PLUGIN_NOT_AVAILABLE, CniError
from cni.request import Request

if TYPE_CHECKING:
    # The fixtures' classes live in conftest.py, which cannot be imported by name.
    Host = Node = Any

RESTRICTED = {
    "cniVersion": "1.0.0",
    "name": "default-restricted",
    "type": "ptp",
    "ipMasq": False,
    "ipam": {"type": "host-local", "subnet": "172.31.0.0/16"},
}


def ptp(**options: Any) -> dict[str, Any]:
    ranges = [[{"subnet": "10.22.0.0/24"}], [{"subnet": "fd00:22::/64"}]]
    routes = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    return {"type": "ptp", "ipam": {"type": "host-local", "ranges": ranges, "routes": routes}, **options}


def routes(node: Node | None, family: str) -> list[tuple[str, str, str]]:
    words = ("ip", "-j", family, "route")
    text = node(*words) if node is not None else subprocess.check_output(words, text=True)
    found = [each for each in json.loads(text) if not each["dst"].startswith("fe80")]
    return sorted((each["dst"], each.get("gateway", ""), each.get("prefsrc", "")) for each in found)


def request(host: Host, verb: str, config: dict[str, Any], node: Node, **more: Any) -> Any:
    if "ipam" in config:
        config = {**config, "ipam": {**config["ipam"], "dataDir": str(host.leases)}}
    more = {"container_id": node.name, "netns": node.netns, "ifname": "eth0", **more}
    return plugin.perform("ptp", Request(verb, config, **more))


def test_two_containers_and_a_host_in_two_families(host: Host, nothing: dict[str, list[str]]) -> None:
    one, two = host.node("c1"), host.node("c2")
    network = host.network(ptp(mtu=1400))
    result = host.add(network, one)
    host.add(network, two)
    two.serve(80, "two")
    host.serve(81, "host")
    # At once, in both families: nobody waits for duplicate address detection.
    for own, gateway, other in (
        ("10.22.0.2", "10.22.0.1", "10.22.0.3"),
        ("fd00:22::2", "fd00:22::1", "fd00:22::3"),
    ):
        assert one.ask(other, 80) == f"two {own}"
        assert one.ask(gateway, 81) == f"host {own}"
    assert [each.name for each in result.interfaces][1:] == ["eth0"]
    assert [str(each.address) for each in result.ips] == ["10.22.0.2/24", "fd00:22::2/64"]
    assert routes(one, "-4") == [
        ("10.22.0.0/24", "10.22.0.1", "10.22.0.2"),
        ("10.22.0.1", "", "10.22.0.2"),
        ("default", "10.22.0.1", ""),
    ]
    assert routes(one, "-6") == [
        ("default", "fd00:22::1", ""),
        ("fd00:22::/64", "fd00:22::1", "fd00:22::2"),
        ("fd00:22::1", "", "fd00:22::2"),
    ]
    assert [each[0] for each in routes(None, "-4")] == ["10.22.0.2", "10.22.0.3"]
    assert json.loads(one("ip", "-j", "link", "show", "eth0"))[0]["mtu"] == 1400
    host.check(network, one)
    for node in (one, two, one):
        host.delete(network, node)
    assert host.left() == nothing
    assert routes(None, "-4") == []


def test_masquerade_and_its_absence(host: Host, nothing: dict[str, list[str]]) -> None:
    outside, one, two = host.outside(), host.node("c1"), host.node("c2")
    masquerading = host.network(ptp(ipMasq=True))
    host.add(masquerading, one)
    request(host, "ADD", RESTRICTED, two)
    outside.serve(80, "outside")
    assert one.ask("192.0.2.2", 80) == "outside 192.0.2.1"
    assert one.ask("2001:db8::2", 80) == "outside 2001:db8::1"
    # The restricted network has no default route, and no address that outside could answer.
    with pytest.raises(OSError, match="unreachable"):
        two.ask("192.0.2.2", 80)
    host.delete(masquerading, one)
    request(host, "DEL", RESTRICTED, two)
    assert host.left() == {**nothing, "links": ["up0"]}


def test_routes_with_all_their_attributes(host: Host) -> None:
    """The reference ignores mtu and advmss, and fails with scope link and an implied gateway."""
    node = host.node("c1")
    ipam = {
        "type": "host-local",
        "subnet": "10.22.0.0/24",
        "routes": [
            {"dst": "10.40.0.0/16", "mtu": 1300, "advmss": 1200, "priority": 7},
            {"dst": "10.41.0.0/16", "scope": 253},
            {"dst": "10.42.0.0/16", "table": 100},
            {"dst": "10.43.0.1/16", "gw": "10.22.0.1"},
            {"dst": "10.43.0.1/16", "gw": "10.22.0.1"},
        ],
    }
    network = host.network(ptp(ipam=ipam))
    host.add(network, node)
    found = {each["dst"]: each for each in json.loads(node("ip", "-j", "-d", "route"))}
    assert found["10.40.0.0/16"]["metrics"] == [{"mtu": 1300, "advmss": 1200}]
    assert found["10.40.0.0/16"]["metric"] == 7
    assert (found["10.41.0.0/16"]["scope"], found["10.41.0.0/16"].get("gateway")) == ("link", None)
    assert found["10.43.0.0/16"]["gateway"] == "10.22.0.1"
    (other,) = json.loads(node("ip", "-j", "route", "show", "table", "100"))
    assert other["dst"] == "10.42.0.0/16"
    host.check(network, node)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ipam": {}}, "no plugin name provided"),
        ({"ipam": {"type": "nobody"}}, "failed to find plugin"),
        ({"mtu": 70000}, "mtu"),
        (
            {
                "ipam": {
                    "type": "host-local",
                    "subnet": "10.22.0.0/24",
                    "routes": [{"dst": "10.44.0.0/16", "gw": "172.31.0.1"}],
                }
            },
            "route to 10.44.0.0/16",
        ),
    ],
)
def test_nothing_is_left_of_an_add_that_fails(
    host: Host, nothing: dict[str, list[str]], options: dict[str, Any], message: str
) -> None:
    node = host.node("c1")
    with pytest.raises(CniError, match=message):
        request(host, "ADD", ptp(ipMasq=True, **options) | {"name": "net1"}, node)
    assert host.left() == nothing
    assert routes(None, "-4") == []


def test_an_exhausted_range_leaves_nothing(host: Host, nothing: dict[str, list[str]]) -> None:
    network = host.network(ptp(ipam={"type": "host-local", "subnet": "10.22.0.0/30"}))
    one, two = host.node("c1"), host.node("c2")
    host.add(network, one)
    with pytest.raises(CniError, match="no IP addresses available"):
        host.add(network, two)
    host.delete(network, two)
    host.delete(network, one)
    assert host.left() == nothing


@pytest.mark.parametrize(
    ("where", "command", "message"),
    [
        ("c1", "ip address del fd00:22::2/64 dev eth0", "lacks addresses: fd00:22::2/64"),
        ("c1", "ip -6 route del default", "route to ::/0 is missing"),
        ("host", "ip route del 10.22.0.2", "no route to 10.22.0.2"),
        ("host", "ip link set {port} down", "is down"),
        ("host", "nft flush table inet rkt_masquerade", None),
        ("host", "nft delete table inet rkt_masquerade", "masquerade"),
    ],
)
def test_check_sees_the_damage_and_del_still_works(
    host: Host, nothing: dict[str, list[str]], where: str, command: str, message: str | None
) -> None:
    node = host.node("c1")
    network = host.network(ptp(ipMasq=True))
    result = host.add(network, node)
    host.check(network, node)
    words = command.format(port=result.interfaces[0].name).split()
    if where == "host":
        subprocess.run(words, check=True)
    else:
        node(*words)
    if message is not None:
        with pytest.raises(CniError, match=message):
            host.check(network, node)
    host.delete(network, node)
    assert host.left() == nothing


def test_del_in_every_order_and_gc(host: Host, nothing: dict[str, list[str]]) -> None:
    node = host.node("c1")
    config = ptp(ipMasq=True) | {"name": "net1", "cniVersion": "1.1.0"}
    request(host, "DEL", config, node)
    for netns in (node.netns, None, "/run/netns/gone"):
        request(host, "ADD", config, node)
        for _ in range(2):
            request(host, "DEL", config, node, netns=netns)
            assert host.left() == nothing
    request(host, "ADD", config, node)
    node.vanish()
    valid = [{"containerID": "c1", "ifname": "eth0"}]
    request(host, "GC", {**config, "cni.dev/valid-attachments": valid}, node, netns=None)
    assert len(host.left()["records"]) == 2
    request(host, "GC", {**config, "cni.dev/valid-attachments": []}, node, netns=None)
    assert host.left() == nothing


def test_check_needs_the_previous_result(host: Host) -> None:
    node = host.node("c1")
    config = ptp() | {"name": "net1", "cniVersion": "1.1.0"}
    request(host, "ADD", config, node)
    with pytest.raises(CniError, match="prevResult") as refused:
        request(host, "CHECK", config, node)
    assert refused.value.code != INVALID_CONFIG


def test_status_says_what_an_add_would(host: Host) -> None:
    node = host.node("c1")
    request(host, "STATUS", ptp() | {"name": "net1", "cniVersion": "1.1.0"}, node)
    with pytest.raises(CniError) as refused:
        request(host, "STATUS", {"type": "ptp", "name": "net1", "cniVersion": "1.1.0"}, node)
    assert refused.value.code == PLUGIN_NOT_AVAILABLE
