"""dummy, ipvlan and vlan: what they ask the kernel for, which may have none of them, and their lives.

An ifb plays the dummy, a macvlan the other two; the requests are judged by pyroute2.
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from cni import plugin
from cni.attachment.verify import DAMAGED
from cni.errors import INVALID_CONFIG, PLUGIN_NOT_AVAILABLE, CniError
from cni.request import Request
from fixtures.linkoracle import judge
from fixtures.linkstandin import StandIn
from linux.netlink import link, wire
from linux.netlink.socket import ROUTE, Socket

if TYPE_CHECKING:
    # The fixtures' classes live in conftest.py, which cannot be imported by name.
    Host = Node = Any

KINDS = ("dummy", "ipvlan", "vlan")
STANDS = {
    "dummy": ("ifb", b""),
    "ipvlan": ("macvlan", wire.u32(1, 4)),
    "vlan": ("macvlan", wire.u32(1, 4)),
}
OWN: dict[str, dict[str, Any]] = {
    "dummy": {},
    "ipvlan": {"master": "lan0"},
    "vlan": {"master": "lan0", "vlanId": 5},
}
LEFT = {"links": ["lan1", "lan0"], "tables": [], "records": [], "leases": []}


def run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def lan(host: Host) -> Host:
    """The host with the link lan0."""
    run("ip", "link", "add", "lan0", "mtu", "1400", "type", "veth", "peer", "name", "lan1")
    run("ip", "link", "set", "lan0", "up")
    return host


@pytest.fixture
def played(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    kind: str = request.getfixturevalue("kind")
    by, options = STANDS[kind]
    return StandIn(monkeypatch, kind, by, options)


def config(host: Host, kind: str, **options: Any) -> dict[str, Any]:
    ranges = [[{"subnet": "10.22.0.0/24"}], [{"subnet": "fd00:22::/64"}]]
    routes = [{"dst": "10.40.0.0/16"}]
    ipam = {"type": "host-local", "ranges": ranges, "routes": routes, "dataDir": str(host.leases)}
    base = {"cniVersion": "1.1.0", "name": "net1", "type": kind, "ipam": ipam, **OWN[kind]}
    return {key: value for key, value in {**base, **options}.items() if value is not None}


def request(verb: str, given: dict[str, Any], node: Node, **more: Any) -> Any:
    more = {"container_id": node.name, "netns": node.netns, "ifname": "eth0", **more}
    return plugin.perform(given["type"], Request(verb, given, **more))


def index(name: str) -> int:
    found: int = json.loads(run("ip", "-j", "link", "show", name))[0]["ifindex"]
    return found


def links(node: Node) -> list[str]:
    return [each["ifname"] for each in json.loads(node("ip", "-j", "link"))]


def supported(kind: str) -> bool:
    with Socket(ROUTE) as socket:
        return link.supports(socket, kind)


def test_what_the_kernel_has_is_found_out(lan: Host) -> None:
    before = run("ip", "link")
    assert supported("macvlan")
    assert supported("ifb")
    assert not supported("no-such-kind")
    assert run("ip", "link") == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_kernel_without_the_kind(lan: Host, kind: str) -> None:
    if supported(kind):
        pytest.skip(f"this kernel has {kind}")
    node = lan.node("c1")
    for verb in ("ADD", "STATUS"):
        with pytest.raises(CniError, match=f"this kernel has no {kind} links.*hint: modprobe ") as refused:
            request(verb, config(lan, kind), node)
        assert refused.value.code == PLUGIN_NOT_AVAILABLE
        assert refused.value.to_json("1.1.0")["details"].endswith("8021q" if kind == "vlan" else kind)
    assert lan.left() == LEFT
    assert links(node) == ["lo"]
    request("DEL", config(lan, kind), node)


@pytest.mark.parametrize(
    ("kind", "options", "wanted"),
    [
        ("dummy", {}, {}),
        ("ipvlan", {}, {"ipvlan_mode": 0}),
        ("ipvlan", {"mode": "l3", "mtu": 1300}, {"ipvlan_mode": 1, "mtu": 1300}),
        ("ipvlan", {"mode": "l3s"}, {"ipvlan_mode": 2}),
        ("vlan", {}, {"vlan_id": 5}),
        ("vlan", {"vlanId": 4094, "mtu": 1300}, {"vlan_id": 4094, "mtu": 1300}),
        ("vlan", {"vlanId": 0}, {"vlan_id": 0}),
    ],
)
def test_the_request_is_that_of_pyroute2_and_the_rest_works(
    lan: Host, kind: str, played: StandIn, options: dict[str, Any], wanted: dict[str, Any]
) -> None:
    node = lan.node("c1")
    given = config(lan, kind, **options)
    result = request("ADD", given, node)
    (sent,) = played.sent
    expected = {"command": "add", "kind": kind, **wanted}
    if kind != "dummy":
        expected["link"] = index("lan0")
    ((ours, theirs),) = judge((sent, "link", {**expected, "ifname": "x"}))
    fields = {"IFLA_IFNAME", "IFLA_NET_NS_FD", "IFLA_ADDRESS", "header"}
    assert {key: value for key, value in ours.items() if key not in fields} == {
        key: value for key, value in theirs.items() if key not in fields
    }
    # Others' names are not in its way: it is made under a passing name in the container's namespace.
    assert ("IFLA_NET_NS_FD" in ours) == (kind != "dummy")
    assert len(ours["IFLA_IFNAME"]) == (4 if kind == "dummy" else 15)
    seen = json.loads(node("ip", "-j", "address", "show", "eth0"))[0]
    local = [each["local"] for each in seen["addr_info"] if each["scope"] == "global"]
    assert local == ["10.22.0.2", "fd00:22::2"]
    assert [(each.name, each.mac, each.sandbox) for each in result.interfaces] == [
        ("eth0", seen["address"], node.netns)
    ]
    assert [each.interface for each in result.ips] == [0, 0]
    assert "10.40.0.0/16 via 10.22.0.1" in node("ip", "route")
    shown = result.to_json("1.1.0")
    request("CHECK", {**given, "prevResult": shown}, node)
    node("ip", "address", "del", "10.22.0.2/24", "dev", "eth0")
    with pytest.raises(CniError, match="lacks addresses") as refused:
        request("CHECK", {**given, "prevResult": shown}, node)
    assert refused.value.code == DAMAGED
    for _ in range(2):
        request("DEL", {**given, "master": "gone0"}, node)
        assert lan.left() == LEFT
        assert links(node) == ["lo"]


@pytest.mark.parametrize("kind", KINDS)
def test_del_in_every_order_and_gc(lan: Host, kind: str, played: StandIn) -> None:
    node = lan.node("c1")
    given = config(lan, kind)
    request("DEL", {**given, "master": "gone0"}, node)
    for netns in (None, "/run/netns/gone"):
        request("ADD", given, node)
        for _ in range(2):
            request("DEL", {**given, "master": None}, node, netns=netns)
            assert lan.left() == LEFT
            assert links(node) == ["lo"]
    request("ADD", given, node)
    valid = [{"containerID": "c1", "ifname": "eth0"}]
    request("GC", {**given, "cni.dev/valid-attachments": valid}, node, netns=None)
    assert len(lan.left()["records"]) == 2
    node.vanish()
    request("GC", {**given, "cni.dev/valid-attachments": []}, node, netns=None)
    assert lan.left() == LEFT


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("dummy", {"ipam": None}, "dummy interface requires an IPAM configuration"),
        ("ipvlan", {"mode": "l9"}, "unknown ipvlan mode: 'l9'"),
        ("ipvlan", {"master": "gone0"}, "master gone0 does not exist"),
        ("ipvlan", {"master": None}, "no default route"),
        ("ipvlan", {"ipam": None}, "no plugin name provided"),
        ("ipvlan", {"mtu": 1500}, r"must be \[0, master MTU\(1400\)\]"),
        ("vlan", {"master": None}, '"master" field is required'),
        ("vlan", {"master": "gone0"}, "master gone0 does not exist"),
        ("vlan", {"vlanId": 4095}, "vlanId: 4095 is not between 0 and 4094"),
        ("vlan", {"vlanId": -1}, "vlanId"),
        ("vlan", {"mtu": 1500}, r"must be \[0, master MTU\(1400\)\]"),
        ("vlan", {"ipam": None}, "no plugin name provided"),
    ],
)
def test_nothing_is_left_of_an_add_that_fails(
    lan: Host, kind: str, played: StandIn, options: dict[str, Any], message: str
) -> None:
    node = lan.node("c1")
    with pytest.raises(CniError, match=message) as refused:
        request("ADD", config(lan, kind, **options), node)
    assert refused.value.code == INVALID_CONFIG
    assert lan.left() == LEFT
    assert links(node) == ["lo"]
    request("DEL", config(lan, kind, **options), node)


@pytest.mark.parametrize(("kind", "name", "other"), [("ipvlan", "mode", "l3"), ("vlan", "vlanId", 6)])
def test_check_sees_another_kind_of_link(
    lan: Host, kind: str, played: StandIn, name: str, other: object
) -> None:
    node = lan.node("c1")
    result = request("ADD", config(lan, kind), node)
    with pytest.raises(CniError, match="not ") as refused:
        request("CHECK", {**config(lan, kind), name: other, "prevResult": result.to_json("1.1.0")}, node)
    assert refused.value.code == DAMAGED


@pytest.mark.parametrize("kind", ["ipvlan"])
def test_an_ipvlan_on_what_the_plugin_before_names(lan: Host, kind: str, played: StandIn) -> None:
    node = lan.node("c1")
    previous = {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "lan0"}],
        "ips": [{"address": "10.23.0.9/24", "gateway": "10.23.0.1", "interface": 0}],
        "routes": [{"dst": "10.41.0.0/16"}],
    }
    given = config(lan, kind, master=None, ipam=None, prevResult=previous)
    result = request("ADD", given, node)
    ((ours, _),) = judge((played.sent[0], "link", {}))
    assert ours["IFLA_LINK"] == index("lan0")
    assert [str(each.address) for each in result.ips] == ["10.23.0.9/24"]
    assert "10.41.0.0/16 via 10.23.0.1" in node("ip", "route")
    request("CHECK", {**given, "prevResult": result.to_json("1.1.0")}, node)
    node("ip", "address", "del", "10.23.0.9/24", "dev", "eth0")
    with pytest.raises(CniError, match="lacks addresses"):
        request("CHECK", {**given, "prevResult": result.to_json("1.1.0")}, node)
    request("DEL", given, node)
    assert lan.left() == LEFT
    for interfaces in ([], [{"name": "a"}, {"name": "b"}]):
        with pytest.raises(CniError, match="chained master failure"):
            request("ADD", {**given, "prevResult": {**previous, "interfaces": interfaces, "ips": []}}, node)


@pytest.mark.parametrize("kind", ["ipvlan", "vlan"])
def test_a_master_in_the_container(lan: Host, kind: str, played: StandIn) -> None:
    node = lan.node("c1")
    node("ip", "link", "add", "net0", "type", "veth", "peer", "name", "net9")
    given = config(lan, kind, master="net0", linkInContainer=True)
    if kind == "vlan":
        with pytest.raises(CniError, match=r"the master net0 is down.*hint: ip link set net0 up"):
            request("ADD", given, node)
        assert links(node) == ["lo", "net9", "net0"]
    node("ip", "link", "set", "net0", "up")
    result = request("ADD", given, node)
    assert json.loads(node("ip", "-j", "link", "show", "eth0"))[0]["link"] == "net0"
    request("CHECK", {**given, "prevResult": result.to_json("1.1.0")}, node)
    request("DEL", given, node)
    assert lan.left() == LEFT
    assert links(node) == ["lo", "net9", "net0"]


@pytest.mark.parametrize("kind", ["vlan"])
def test_a_vlan_that_is_taken(lan: Host, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel has each VLAN of a link once, wherever that is. A name that is taken will do elsewhere."""
    node = lan.node("c1")
    has = supported(kind)
    if has:
        run("ip", "link", "add", "taken", "link", "lan0", "type", "vlan", "id", "5")
    else:
        StandIn(monkeypatch, kind, *STANDS[kind])
        from cni.attachment import names

        node("ip", "link", "add", "taken", "type", "veth", "peer", "name", "other")
        monkeypatch.setattr(names, "passing", lambda _: "taken")
    with pytest.raises(CniError, match="VLAN 5 of lan0 is taken") as refused:
        request("ADD", config(lan, kind), node)
    assert refused.value.code == INVALID_CONFIG
    if has:
        run("ip", "link", "delete", "taken")
    assert lan.left() == LEFT
