"""macvlan: containers that talk over a link of the host, every mode, and what is left in each case."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from cni import plugin
from cni.attachment.verify import DAMAGED
from cni.errors import INVALID_CONFIG, INVALID_ENVIRONMENT, PLUGIN_NOT_AVAILABLE, CniError
from cni.request import Request

if TYPE_CHECKING:
    # The fixtures' classes live in conftest.py, which cannot be imported by name.
    Host = Node = Any


def run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def lan(host: Host) -> Host:
    """The host with the link lan0, whose other end nobody uses."""
    run("ip", "link", "add", "lan0", "mtu", "1400", "type", "veth", "peer", "name", "lan1")
    for name in ("lan0", "lan1"):
        run("ip", "link", "set", name, "up")
    return host


def config(host: Host, **options: Any) -> dict[str, Any]:
    ranges = [[{"subnet": "10.22.0.0/24"}], [{"subnet": "fd00:22::/64"}]]
    routes = [{"dst": "0.0.0.0/0"}]
    ipam = {"type": "host-local", "ranges": ranges, "routes": routes, "dataDir": str(host.leases)}
    base = {"cniVersion": "1.1.0", "name": "net1", "type": "macvlan", "master": "lan0", "ipam": ipam}
    return {key: value for key, value in {**base, **options}.items() if value is not None}


def request(verb: str, given: dict[str, Any], node: Node, **more: Any) -> Any:
    more = {"container_id": node.name, "netns": node.netns, "ifname": "eth0", **more}
    return plugin.perform("macvlan", Request(verb, given, **more))


def shown(node: Node, name: str = "eth0") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(node("ip", "-j", "-d", "link", "show", name))[0]
    return found


LEFT = {"links": ["lan1", "lan0"], "tables": [], "records": [], "leases": []}


def test_two_containers_talk_and_the_world_hears_them(lan: Host) -> None:
    one, two = lan.node("c1"), lan.node("c2")
    result = request("ADD", config(lan), one)
    request("ADD", config(lan), two)
    two.serve(80, "two")
    assert one.ask("10.22.0.3", 80) == "two 10.22.0.2"
    assert one.ask("fd00:22::3", 80) == "two fd00:22::2"
    seen = shown(one)
    assert seen["linkinfo"]["info_data"]["mode"] == "bridge"
    assert (seen["mtu"], seen["flags"][-1]) == (1400, "LOWER_UP")
    (own,) = result.interfaces
    assert (own.name, own.mac, own.sandbox) == ("eth0", seen["address"], one.netns)
    assert [(str(each.address), each.interface) for each in result.ips] == [
        ("10.22.0.2/24", 0),
        ("fd00:22::2/64", 0),
    ]
    assert json.loads(one("ip", "-j", "route", "show", "default"))[0]["gateway"] == "10.22.0.1"
    for name in ("ipv4/conf/eth0/arp_notify", "ipv6/conf/eth0/ndisc_notify"):
        assert one("cat", f"/proc/sys/net/{name}").strip() == "1"
    request("CHECK", {**config(lan), "prevResult": result.to_json("1.1.0")}, one)
    for node in (one, two, one):
        request("DEL", config(lan), node)
    assert lan.left() == LEFT
    assert [each["ifname"] for each in json.loads(one("ip", "-j", "link"))] == ["lo"]


def test_modes_queue_mtu_and_address(lan: Host) -> None:
    node = lan.node("c1")
    mac = "02:00:00:00:00:77"
    of_lan = json.loads(run("ip", "-j", "link", "show", "lan0"))[0]["address"]
    cases: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"mode": "private"}, {"mode": "private"}),
        ({"mode": "vepa", "bcqueuelen": 2000}, {"mode": "vepa", "bcqueuelen": 2000}),
        ({"mtu": 1300}, {"mtu": 1300}),
        ({"mac": mac}, {"address": mac}),
        ({"mac": "02:00:00:00:00:01", "runtimeConfig": {"mac": mac}}, {"address": mac}),
        ({"mode": "passthru"}, {"mode": "passthru", "address": of_lan}),
        ({"ipam": None}, {"mode": "bridge"}),
    ]
    for options, wanted in cases:
        result = request("ADD", config(lan, **options), node)
        seen = shown(node)
        data = seen["linkinfo"]["info_data"]
        assert {key: {**seen, **data}[key] for key in wanted} == wanted
        assert result.interfaces[0].mac == seen["address"]
        request("CHECK", {**config(lan, **options), "prevResult": result.to_json("1.1.0")}, node)
        request("DEL", config(lan, **options), node)
        assert lan.left() == LEFT
    request("ADD", config(lan), node, args=f"MAC={mac};IgnoreUnknown=1")
    assert shown(node)["address"] == mac


def test_the_master_of_the_default_route(lan: Host) -> None:
    node = lan.node("c1")
    with pytest.raises(CniError, match="no default route"):
        request("ADD", config(lan, master=None), node)
    run("ip", "address", "add", "192.0.2.1/24", "dev", "lan0")
    run("ip", "route", "add", "default", "via", "192.0.2.9", "dev", "lan0")
    request("ADD", config(lan, master=None), node)
    assert "link_netnsid" in shown(node)
    run("ip", "route", "del", "default")
    request("DEL", config(lan, master=None), node)
    assert lan.left() == LEFT


def test_a_master_in_the_container(lan: Host) -> None:
    node = lan.node("c1")
    node("ip", "link", "add", "net0", "type", "veth", "peer", "name", "net9")
    given = config(lan, master="net0", linkInContainer=True)
    request("STATUS", given, node)
    result = request("ADD", given, node)
    assert shown(node)["link"] == "net0"
    request("CHECK", {**given, "prevResult": result.to_json("1.1.0")}, node)
    request("DEL", given, node)
    assert lan.left() == LEFT
    with pytest.raises(CniError, match="master lan0 does not exist: in the container"):
        request("ADD", config(lan, linkInContainer=True), node)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ({"master": "gone0"}, INVALID_CONFIG, "master gone0 does not exist"),
        ({"mode": "l2"}, INVALID_CONFIG, "unknown macvlan mode: 'l2'"),
        ({"mtu": 1500}, INVALID_CONFIG, r"invalid MTU 1500, must be \[0, master MTU\(1400\)\]"),
        ({"mtu": -1}, INVALID_CONFIG, "mtu"),
        ({"mac": "01:00:00:00:00:01"}, INVALID_CONFIG, "group"),
        ({"mac": "02:00:00:00:00:01", "mode": "passthru"}, INVALID_CONFIG, "cannot be had in mode passthru"),
        ({"ipam": {"type": "static"}}, INVALID_CONFIG, "missing IP config"),
        ({"ipam": {"type": "nobody"}}, INVALID_CONFIG, "failed to find plugin"),
        ({"name": "net1", "linkInContainer": "yes"}, INVALID_CONFIG, "linkInContainer is not true or false"),
    ],
)
def test_nothing_is_left_of_an_add_that_fails(
    lan: Host, options: dict[str, Any], code: int, message: str
) -> None:
    node = lan.node("c1")
    with pytest.raises(CniError, match=message) as refused:
        request("ADD", config(lan, **options), node)
    assert refused.value.code == code
    assert lan.left() == LEFT
    assert [each["ifname"] for each in json.loads(node("ip", "-j", "link"))] == ["lo"]
    request("DEL", {**config(lan), "master": "gone0"}, node)


def test_a_name_that_is_taken(lan: Host) -> None:
    """In the container it is refused; on the host it does not matter, which the kernel needs to be told."""
    node = lan.node("c1")
    run("ip", "link", "set", "lan1", "name", "eth0")
    request("ADD", config(lan), node)
    with pytest.raises(CniError, match="has an interface eth0 already") as refused:
        request("ADD", config(lan), node)
    assert refused.value.code == INVALID_ENVIRONMENT
    assert shown(node)["linkinfo"]["info_kind"] == "macvlan"


def test_del_in_every_order_and_gc(lan: Host) -> None:
    node = lan.node("c1")
    given = config(lan)
    request("DEL", given, node)
    for netns in (node.netns, None, "/run/netns/gone"):
        request("ADD", given, node)
        for _ in range(2):
            request("DEL", {**given, "master": "gone0"}, node, netns=netns)
            assert lan.left() == LEFT
            assert [each["ifname"] for each in json.loads(node("ip", "-j", "link"))] == ["lo"]
    request("ADD", given, node)
    valid = [{"containerID": "c1", "ifname": "eth0"}]
    request("GC", {**given, "cni.dev/valid-attachments": valid}, node, netns=None)
    assert len(lan.left()["records"]) == 2
    # The master goes, and with it the interface; then the container.
    run("ip", "link", "del", "lan0")
    node.vanish()
    request("GC", {**given, "cni.dev/valid-attachments": []}, node, netns=None)
    assert lan.left() == {**LEFT, "links": []}


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("ip link del eth0", "no interface eth0"),
        ("ip link set eth0 type macvlan mode vepa", "in mode vepa"),
        ("ip link set eth0 address 02:00:00:00:00:66", "MAC address"),
        ("ip address del 10.22.0.2/24 dev eth0", "lacks addresses"),
        ("ip route del default", "the route to 0.0.0.0/0 is missing"),
    ],
)
def test_check_sees_damage(lan: Host, command: str, message: str) -> None:
    node = lan.node("c1")
    result = request("ADD", config(lan), node)
    node(*command.split())
    with pytest.raises(CniError, match=message) as refused:
        request("CHECK", {**config(lan), "prevResult": result.to_json("1.1.0")}, node)
    assert refused.value.code == DAMAGED
    request("DEL", config(lan), node)
    assert lan.left() == LEFT


def test_status_says_what_an_add_would(lan: Host) -> None:
    node = lan.node("c1")
    request("STATUS", config(lan), node)
    with pytest.raises(CniError, match="master gone0 does not exist") as refused:
        request("STATUS", config(lan, master="gone0"), node)
    assert refused.value.code == PLUGIN_NOT_AVAILABLE
    full = {"type": "host-local", "subnet": "10.22.0.0/30", "dataDir": str(lan.leases)}
    request("ADD", config(lan, ipam=full), node)
    with pytest.raises(CniError) as refused:
        request("STATUS", config(lan, ipam=full), node)
    assert refused.value.code == PLUGIN_NOT_AVAILABLE


def test_the_dns_of_the_ipam_plugin_is_kept(lan: Host) -> None:
    node = lan.node("c1")
    ipam = {
        "type": "static",
        "addresses": [{"address": "10.22.0.9/24"}],
        "dns": {"nameservers": ["10.0.0.1"]},
    }
    result = request("ADD", config(lan, ipam=ipam), node)
    assert list(result.dns.nameservers) == ["10.0.0.1"]
    request("DEL", config(lan, ipam=ipam), node)
    own = config(lan, ipam=ipam, dns={"nameservers": ["10.0.0.2"]})
    assert list(request("ADD", own, node).dns.nameservers) == ["10.0.0.2"]
