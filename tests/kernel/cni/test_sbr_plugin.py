"""sbr: packets leave by the interface whose address they come from, and nothing is left of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from cni import plugin, state
from cni.errors import INVALID_CONFIG, UNKNOWN_CONTAINER, CniError
from cni.request import Request

if TYPE_CHECKING:
    # The fixtures' classes live in conftest.py, which cannot be imported by name.
    Host = Node = Any


def bridge(number: int = 22, *, both: bool = False, gateway: bool = True) -> dict[str, Any]:
    ranges = [[{"subnet": f"10.{number}.0.0/24"}], *([[{"subnet": f"fd00:{number}::/64"}]] if both else [])]
    routes = [{"dst": "0.0.0.0/0"}, *([{"dst": "::/0"}] if both else [])]
    ipam = {"type": "host-local", "ranges": ranges, "routes": routes if gateway else []}
    return {"type": "bridge", "bridge": f"br{number}", "isGateway": True, "ipam": ipam}


def routes(node: Node) -> list[str]:
    found = []
    for family in ("-4", "-6"):
        for each in json.loads(node("ip", "-j", family, "route", "show", "table", "all") or "[]"):
            if each.get("table") != "local" and not each["dst"].startswith(("fe80", "ff00")):
                words = [each["dst"], each.get("table", "main"), each.get("gateway", "")]
                words += [each.get("prefsrc", ""), each["dev"]]
                found.append(" ".join(word for word in words if word))
    return sorted(found)


def rules(node: Node) -> list[str]:
    found = []
    for family in ("-4", "-6"):
        for each in json.loads(node("ip", "-j", family, "rule", "show")):
            if each["src"] != "all":
                found.append(f"{each['src']} {each['table']}")
    return sorted(found)


def way(node: Node, source: str, destination: str) -> str:
    (found,) = json.loads(node("ip", "-j", "route", "get", destination, "from", source))
    return str(found["dev"])


def everything(node: Node) -> list[str]:
    """Routes and rules, but for link-local routes: those come when the kernel is ready."""
    shown = f"{node('ip', '-d', 'route')}{node('ip', '-d', '-6', 'route')}".splitlines()
    return [line for line in shown if "fe80::" not in line] + rules(node)


def by_hand(node: Node) -> None:
    """An interface that outlives its attachments."""
    for words in (
        "ip link add name eth0 type veth peer name eth1",
        "ip link set eth1 up",
        "ip address add 10.22.0.2/24 dev eth0",
        "ip address add fd00:22::2/64 dev eth0 nodad",
        "ip link set eth0 up",
        "ip route add default via 10.22.0.1",
        "ip route add 10.90.0.0/16 via 10.22.0.9 metric 7 mtu 1400",
        "ip -6 route add default via fd00:22::1",
    ):
        node(*words.split())


def request(node: Node, verb: str = "ADD", **options: Any) -> Request:
    previous = {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "eth0", "sandbox": node.netns}],
        "ips": [
            {"address": "10.22.0.2/24", "gateway": "10.22.0.1", "interface": 0},
            {"address": "fd00:22::2/64", "gateway": "fd00:22::1", "interface": 0},
        ],
    }
    config = {"cniVersion": "1.1.0", "name": "net1", "type": "sbr", "prevResult": previous, **options}
    return Request(verb, config, container_id="c1", netns=node.netns, ifname="eth0")


def perform(made: Request, verb: str) -> Any:
    return plugin.perform("sbr", made.with_config(made.config, command=verb))


def test_two_interfaces_answer_where_they_were_asked(host: Host, nothing: dict[str, list[str]]) -> None:
    node = host.node("c1")
    first = host.network(bridge(22, both=True), name="net1")
    second = host.network(bridge(23, both=True, gateway=False), {"type": "sbr"}, name="net2")
    host.add(first, node)
    result = host.add(second, node, ifname="net1")
    assert [str(each.address) for each in result.ips] == ["10.23.0.2/24", "fd00:23::2/64"]
    # To somebody far away: by each one's own way.
    assert way(node, "10.22.0.2", "192.0.2.9") == way(node, "fd00:22::2", "2001:db8::9") == "eth0"
    assert way(node, "10.23.0.2", "192.0.2.9") == way(node, "fd00:23::2", "2001:db8::9") == "net1"
    node.serve(80, "hello")
    outside = host.outside()
    outside("ip", "route", "add", "10.0.0.0/8", "via", "192.0.2.1")
    assert outside.ask("10.23.0.2", 80) == "hello 192.0.2.2"
    assert outside.ask("10.22.0.2", 80) == "hello 192.0.2.2"
    host.check(first, node)
    # The reference's chains failed here: the bridge looked for its routes in the main table.
    host.check(second, node, ifname="net1")
    for _ in range(2):
        host.delete(second, node, ifname="net1")
        assert rules(node) == []
    host.delete(first, node)
    assert {**host.left(), "links": []} == {**nothing, "links": []}


@pytest.mark.parametrize("hints", [False, True])
def test_the_tables_and_that_all_of_it_comes_back(
    host: Host, nothing: dict[str, list[str]], *, hints: bool
) -> None:
    node = host.node("c1")
    by_hand(node)
    before = everything(node)
    made = request(node, addSourceHints=hints)
    perform(made, "ADD")
    assert rules(node) == ["10.22.0.2 100", "fd00:22::2 101"]
    own = [
        "10.22.0.0/24 100 10.22.0.2 eth0",
        "10.90.0.0/16 100 10.22.0.9 eth0",
        "default 100 10.22.0.1 eth0",
        "default 101 fd00:22::1 eth0",
        "fd00:22::/64 101 eth0",
    ]
    kept = ["10.22.0.0/24 main 10.22.0.2 eth0", "fd00:22::/64 main fd00:22::2 eth0"] if hints else []
    assert routes(node) == sorted(own + kept)
    assert "mtu 1400" in node("ip", "route", "show", "table", "100")
    perform(made, "CHECK")
    for _ in range(2):
        perform(made, "DEL")
        assert everything(node) == before
    # Twice in a row, as after a kill: the first record's routes are the ones to come back.
    perform(made, "ADD")
    perform(made, "ADD")
    perform(made, "DEL")
    assert everything(node) == before
    assert host.left() == nothing


def test_a_table_that_others_fill(host: Host) -> None:
    node = host.node("c1")
    by_hand(node)
    before = routes(node)
    made = request(node, table=222)
    perform(made, "ADD")
    assert rules(node) == ["10.22.0.2 222", "fd00:22::2 222"]
    assert routes(node) == before
    perform(made, "CHECK")
    node("ip", "rule", "del", "from", "10.22.0.2", "table", "222")
    with pytest.raises(CniError, match="no rule for packets from"):
        perform(made, "CHECK")
    perform(made, "DEL")
    assert rules(node) == []


def test_taken_tables_are_left_alone_and_gateways_can_be_said(host: Host) -> None:
    node = host.node("c1")
    by_hand(node)
    node("ip", "rule", "add", "from", "192.0.2.7", "lookup", "100")
    node("ip", "route", "add", "198.51.100.0/24", "dev", "eth1", "table", "101")
    made = request(node, gateways=["10.22.0.77", "fd00:22::77"])
    perform(made, "ADD")
    assert rules(node) == ["10.22.0.2 102", "192.0.2.7 100", "fd00:22::2 103"]
    assert {"default 102 10.22.0.77 eth0", "default 103 fd00:22::77 eth0"} <= set(routes(node))
    assert "default 102 10.22.0.1 eth0" not in routes(node)
    perform(made, "DEL")
    assert rules(node) == ["192.0.2.7 100"]
    assert "198.51.100.0/24 101 eth1" in routes(node)


def test_many_at_once_share_no_table(host: Host) -> None:
    from threading import Thread

    node = host.node("c1")
    made = []
    for number in range(8):
        name = f"eth{number}"
        node("ip", "link", "add", "name", name, "type", "veth", "peer", "name", f"p{number}")
        node("ip", "link", "set", f"p{number}", "up")
        node("ip", "address", "add", f"10.{number}.0.2/24", "dev", name)
        node("ip", "link", "set", name, "up")
        one = request(node)
        one.ifname = name
        ip = {"address": f"10.{number}.0.2/24", "gateway": f"10.{number}.0.1"}
        one.config["prevResult"] = {"cniVersion": "1.1.0", "ips": [ip]}
        made.append(one)
    threads = [Thread(target=perform, args=(one, "ADD")) for one in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({line.split()[1] for line in rules(node)}) == 8
    for one in made:
        perform(one, "DEL")
    assert rules(node) == []


def test_the_namespace_is_gone_and_no_file_takes_its_place(host: Host, nothing: dict[str, list[str]]) -> None:
    """The reference plugin opened the path as a lock file, made a plain file there, and failed."""
    from pathlib import Path

    node = host.node("c1")
    by_hand(node)
    made = request(node)
    perform(made, "ADD")
    path = Path(host.leases.parent / "netns")
    for netns in (str(path), None):
        gone = made.with_config(made.config, command="DEL")
        gone.netns = netns
        plugin.perform("sbr", gone)
        plugin.perform("sbr", gone)
        assert not path.exists()
    assert list(state.every()) == []
    path.touch()
    gone.netns = str(path)
    plugin.perform("sbr", gone)
    # Without a record, by the addresses of the interface and of the result, as after the reference's ADD.
    assert rules(node) == ["10.22.0.2 100", "fd00:22::2 101"]
    node("ip", "address", "del", "10.22.0.2/24", "dev", "eth0")
    perform(made, "DEL")
    assert rules(node) == []
    node.vanish()
    with pytest.raises(CniError) as refused:
        perform(made, "ADD")
    assert refused.value.code == UNKNOWN_CONTAINER
    assert host.left() == nothing


def test_the_interface_is_gone(host: Host) -> None:
    node = host.node("c1")
    by_hand(node)
    made = request(node)
    perform(made, "ADD")
    node("ip", "link", "del", "eth0")
    with pytest.raises(CniError, match="no interface"):
        perform(made, "CHECK")
    # The rules would stay, as they name no interface.
    assert rules(node) == ["10.22.0.2 100", "fd00:22::2 101"]
    perform(made, "DEL")
    assert rules(node) == []


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"prevResult": None}, 6),
        ({"prevResult": {"cniVersion": "1.1.0"}}, INVALID_CONFIG),
        ({"gateways": ["10.0.0.1", "10.0.0.2"]}, INVALID_CONFIG),
        ({"gateways": ["nowhere"]}, INVALID_CONFIG),
        ({"gateways": ["192.0.2.1"]}, INVALID_CONFIG),
        ({"table": -1}, INVALID_CONFIG),
        ({"table": 1 << 32}, INVALID_CONFIG),
        ({"table": "main"}, INVALID_CONFIG),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_changed(
    host: Host, nothing: dict[str, list[str]], options: dict[str, Any], code: int
) -> None:
    node = host.node("c1")
    by_hand(node)
    before = routes(node)
    with pytest.raises(CniError) as refused:
        perform(request(node, **options), "ADD")
    assert refused.value.code == code
    assert (routes(node), rules(node)) == (before, [])
    assert host.left() == nothing


def test_gc_and_old_versions(host: Host, nothing: dict[str, list[str]]) -> None:
    node = host.node("c1")
    by_hand(node)
    before = routes(node)
    old = {"cniVersion": "0.2.0", "ip4": {"ip": "10.22.0.2/24", "gateway": "10.22.0.1"}}
    perform(request(node, cniVersion="0.2.0", prevResult=old), "ADD")
    assert rules(node) == ["10.22.0.2 100"]
    perform(request(node), "GC")
    assert (routes(node), rules(node)) == (before, [])
    assert host.left() == nothing
