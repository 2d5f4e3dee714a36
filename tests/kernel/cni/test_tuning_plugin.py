"""tuning: what it sets is there, what it must not set is refused, and DEL gives everything back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from cni import plugin, state
from cni.errors import INVALID_CONFIG, UNKNOWN_CONTAINER, CniError
from cni.plugins import tuning
from cni.request import Request
from linux import namespaces

if TYPE_CHECKING:
    from pathlib import Path

    # The fixtures' classes live in conftest.py, which cannot be imported by name.
    Host = Node = Any

MAC = "c2:11:22:33:44:72"


@pytest.fixture(autouse=True)
def own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "DATA_DIRECTORY", str(tmp_path / "tuning"))
    monkeypatch.setattr(tuning, "ALLOWED", str(tmp_path / "allowlist.conf"))


def tap(node: Node, name: str = "eth0") -> None:
    node("ip", "tuntap", "add", name, "mode", "tap")
    node("ip", "link", "set", name, "up")


def request(node: Node, verb: str = "ADD", **options: Any) -> Request:
    """For an interface that anybody has made: here a tap."""
    args = options.pop("cni_args", "")
    previous = {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "eth0", "sandbox": node.netns, "mac": "02:00:00:00:00:09"}, {"name": "eth0"}],
        "ips": [{"address": "10.22.0.2/24", "interface": 0}],
    }
    config = {"cniVersion": "1.1.0", "name": "net1", "type": "tuning", "prevResult": previous, **options}
    return Request(verb, config, container_id="c1", netns=node.netns, ifname="eth0", args=args)


def perform(made: Request, verb: str) -> Any:
    return plugin.perform("tuning", made.with_config(made.config, command=verb))


def link(node: Node, name: str = "eth0") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(node("ip", "-j", "-d", "link", "show", name))[0]
    # The kernel may see only later that nobody is at the other end of a tap.
    found["flags"] = [flag for flag in found["flags"] if flag != "NO-CARRIER"]
    return {key: found[key] for key in ("mtu", "txqlen", "address", "promiscuity", "flags")}


def setting(node: Node, path: str) -> str:
    with namespaces.inside(node.netns), open(f"/proc/sys/net/{path}", encoding="ascii") as file:
        return file.read().strip()


def test_all_of_it_is_set_and_given_back(host: Host, nothing: dict[str, list[str]], tmp_path: Path) -> None:
    node = host.node("c1")
    tap(node)
    before, somaxconn = link(node), setting(node, "core/somaxconn")
    made = request(
        node,
        sysctl={"net.core.somaxconn": "500", "net/ipv4/conf/IFNAME/log_martians": "1"},
        mac=MAC,
        mtu=1300,
        promisc=True,
        allmulti=True,
        txQLen=77,
    )
    result = perform(made, "ADD").to_json("1.1.0")
    assert result["interfaces"] == [
        {"name": "eth0", "mac": MAC, "mtu": 1300, "sandbox": node.netns},
        {"name": "eth0"},
    ]
    assert result["ips"] == [{"interface": 0, "address": "10.22.0.2/24"}]
    after = link(node)
    assert (after["mtu"], after["txqlen"], after["address"]) == (1300, 77, MAC)
    assert {"PROMISC", "ALLMULTI"} <= set(after["flags"])
    assert setting(node, "core/somaxconn") == "500"
    assert setting(host.node("other"), "core/somaxconn") == somaxconn
    with open("/proc/sys/net/core/somaxconn", encoding="ascii") as file:
        assert file.read().strip() == somaxconn
    assert setting(node, "ipv4/conf/eth0/log_martians") == "1"
    # As the reference plugin keeps it: its DEL can take this back too.
    kept = json.loads((tmp_path / "tuning/c1_eth0.json").read_text())
    assert kept == {
        "mac": before["address"],
        "promisc": False,
        "mtu": 1500,
        "allmulti": False,
        "txQLen": before["txqlen"],
    }
    perform(made, "CHECK")
    for _ in range(2):
        perform(made, "DEL")
        assert link(node) == before
        assert setting(node, "core/somaxconn") == somaxconn
        assert setting(node, "ipv4/conf/eth0/log_martians") == "0"
    assert host.left() == nothing
    assert list((tmp_path / "tuning").iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [
        ("ip", "link", "set", "eth0", "mtu", "1400"),
        ("ip", "link", "set", "eth0", "address", "02:00:00:00:00:44"),
        ("ip", "link", "set", "eth0", "allmulticast", "off"),
        ("ip", "link", "del", "eth0"),
        ("sh", "-c", "echo 77 > /proc/sys/net/core/somaxconn"),
    ],
)
def test_check_finds_what_was_changed_and_del_works_all_the_same(
    host: Host, nothing: dict[str, list[str]], damage: tuple[str, ...]
) -> None:
    node = host.node("c1")
    tap(node)
    made = request(node, mac=MAC, mtu=1300, allmulti=True, sysctl={"net.core.somaxconn": "500"})
    perform(made, "ADD")
    # Somebody else's doing is none of its affair.
    node("ip", "link", "set", "eth0", "promisc", "on")
    perform(made, "CHECK")
    node(*damage)
    with pytest.raises(CniError) as refused:
        perform(made, "CHECK")
    assert refused.value.code == 101
    perform(made, "DEL")
    assert host.left() == nothing


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"sysctl": {"kernel.hostname": "x"}}, INVALID_CONFIG),
        ({"sysctl": {"net/../kernel/hostname": "x"}}, INVALID_CONFIG),
        ({"sysctl": {"net.ipv4.conf...kernel.hostname": "x"}}, INVALID_CONFIG),
        ({"sysctl": {"/proc/sys/net/core/somaxconn": "1"}}, INVALID_CONFIG),
        ({"sysctl": {"net": "1"}}, INVALID_CONFIG),
        ({"sysctl": {"net.core.nothing_of_the_kind": "1"}}, INVALID_CONFIG),
        ({"sysctl": {"net.core.somaxconn": "many"}}, INVALID_CONFIG),
        ({"sysctl": {"net.core.somaxconn": 5}}, INVALID_CONFIG),
        ({"sysctl": {"net.core.somaxconn": "5", "net/core/somaxconn": "6"}}, INVALID_CONFIG),
        ({"sysctl": {"net.core.somaxconn": "5\n6"}}, INVALID_CONFIG),
        ({"mtu": 3}, INVALID_CONFIG),
        ({"mtu": -1}, INVALID_CONFIG),
        ({"mac": "01:00:00:00:00:00"}, INVALID_CONFIG),
        ({"mac": "none"}, INVALID_CONFIG),
        ({"txQLen": -1}, INVALID_CONFIG),
        ({"promisc": "yes"}, INVALID_CONFIG),
        ({"prevResult": None}, 6),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_changed(
    host: Host, nothing: dict[str, list[str]], options: dict[str, Any], code: int
) -> None:
    node = host.node("c1")
    tap(node)
    before = link(node)
    made = request(node, **{"allmulti": True, **options})
    with pytest.raises(CniError) as refused:
        perform(made, "ADD")
    assert refused.value.code == code
    assert link(node) == before
    assert setting(node, "core/somaxconn") == "4096"
    assert host.left() == nothing


def test_arguments_of_the_call_come_before_the_configuration(host: Host) -> None:
    node = host.node("c1")
    tap(node)
    # The reference plugin ended in a panic here: there is no "sysctl" beside it.
    more = {"sysctl": {"net.core.somaxconn": "501"}, "mtu": 1398, "txQLen": 5, "allmulti": True}
    made = request(node, mtu=1300, args={"cni": more})
    perform(made, "ADD")
    assert (link(node)["mtu"], link(node)["txqlen"], setting(node, "core/somaxconn")) == (1398, 5, "501")
    perform(made, "DEL")
    macs = [f"02:00:00:00:01:0{each}" for each in range(4)]
    for options, wanted in (
        ({"mac": macs[0]}, macs[0]),
        ({"mac": macs[0], "cni_args": f"IgnoreUnknown=1;K8S_POD_NAME=x;MAC={macs[1]}"}, macs[1]),
        ({"cni_args": f"MAC={macs[1]}", "runtimeConfig": {"mac": macs[2]}}, macs[2]),
        ({"runtimeConfig": {"mac": macs[2]}, "args": {"cni": {"mac": macs[3]}}}, macs[3]),
    ):
        made = request(node, **options)
        perform(made, "ADD")
        perform(made, "CHECK")
        assert link(node)["address"] == wanted
        perform(made, "DEL")


def test_a_list_of_what_is_allowed(host: Host, tmp_path: Path) -> None:
    node = host.node("c1")
    tap(node)
    (tmp_path / "allowlist.conf").write_text("^net.ipv4.conf.IFNAME.[a-z_]*$\n\n")
    allowed = request(node, sysctl={"net.ipv4.conf.IFNAME.log_martians": "1"})
    perform(allowed, "ADD")
    perform(allowed, "DEL")
    for key in ("net.core.somaxconn", "net.ipv4.conf.eth0.log_martians"):
        with pytest.raises(CniError, match="not allowed") as refused:
            perform(request(node, sysctl={key: "500"}), "ADD")
        assert refused.value.code == INVALID_CONFIG
    (tmp_path / "allowlist.conf").write_text("(\n")
    with pytest.raises(CniError, match="no regular expression"):
        perform(allowed, "ADD")
    # The list is about making, not about taking back.
    perform(allowed, "DEL")


def test_an_interface_with_a_dot_in_its_name(host: Host) -> None:
    node = host.node("c1")
    tap(node, "eth0.5")
    for key in ("net/ipv4/conf/eth0.5/log_martians", "net.ipv4.conf.eth0/5.log_martians"):
        made = request(node, sysctl={key: "1"})
        made.ifname = "eth0.5"
        perform(made, "ADD")
        assert setting(node, "ipv4/conf/eth0.5/log_martians") == "1"
        perform(made, "DEL")
        assert setting(node, "ipv4/conf/eth0.5/log_martians") == "0"


def test_two_attachments_with_one_setting_leave_it_as_it_was(host: Host) -> None:
    node = host.node("c1")
    tap(node)
    tap(node, "eth1")
    for first, second in (("eth0", "eth1"), ("eth1", "eth0")):
        made = {}
        for name in ("eth0", "eth1"):
            made[name] = request(node, sysctl={"net.core.somaxconn": "500"})
            made[name].ifname = name
            perform(made[name], "ADD")
        perform(made[first], "DEL")
        perform(made[second], "DEL")
        assert setting(node, "core/somaxconn") == "4096"


def test_the_namespace_is_gone_or_is_another_now(host: Host, nothing: dict[str, list[str]]) -> None:
    node, other = host.node("c1"), host.node("c2")
    tap(node)
    tap(other)
    node("ip", "link", "set", "eth0", "mtu", "1450")
    made = request(node, mtu=1300, allmulti=True)
    perform(made, "ADD")
    # Another container has the path by now.
    made.netns = other.netns
    before = link(other)
    perform(made, "DEL")
    assert link(other) == before
    perform(request(node, mtu=1300, prevResult=None), "DEL")
    made = request(node, mtu=1300)
    perform(made, "ADD")
    node.vanish()
    with pytest.raises(CniError) as refused:
        perform(made, "ADD")
    assert refused.value.code == UNKNOWN_CONTAINER
    perform(made, "DEL")
    made = request(other, mtu=1300)
    perform(made, "ADD")
    made.netns = None
    perform(made, "DEL")
    assert host.left() == nothing


def test_gc_takes_back_what_nobody_wants(host: Host, nothing: dict[str, list[str]]) -> None:
    node = host.node("c1")
    tap(node)
    before = link(node)
    made = request(node, mac=MAC)
    perform(made, "ADD")
    valid = [{"containerID": "c1", "ifname": "eth0"}]
    perform(request(node, **{"cni.dev/valid-attachments": valid}), "GC")
    assert link(node)["address"] == MAC
    perform(request(node), "GC")
    assert link(node) == before
    assert host.left() == nothing


def test_in_a_chain_with_a_bridge(host: Host, nothing: dict[str, list[str]]) -> None:
    node = host.node("c1")
    bridge = {"type": "bridge", "bridge": "br0", "ipam": {"type": "host-local", "subnet": "10.22.0.0/24"}}
    more = {"type": "tuning", "capabilities": {"mac": True}, "mtu": 1399}
    network = host.network(bridge, more)
    result = host.add(network, node, capability_args={"mac": MAC})
    assert [(each.name, each.mac, each.mtu) for each in result.interfaces][2] == ("eth0", MAC, 1399)
    host.check(network, node, capability_args={"mac": MAC})
    host.delete(network, node)
    host.delete(network, node)
    assert [each for each in host.left()["links"] if each != "br0"] == []
    assert {**host.left(), "links": []} == nothing
    assert list(state.every()) == []
