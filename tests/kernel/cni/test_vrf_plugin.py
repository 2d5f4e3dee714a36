"""vrf: into the domain and out of it, with addresses and routes.

Most kernels of test machines have no vrf. There a bridge stands in for it, which has ports as well: it takes
no interface down, so the test does. And what would be sent to the kernel is read by pyroute2.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from cni import plugin
from cni.errors import INVALID_CONFIG, PLUGIN_NOT_AVAILABLE, UNKNOWN_CONTAINER, CniError
from cni.request import Request
from linux.netlink import link, wire

if TYPE_CHECKING:
    # The fixtures' classes live in conftest.py, which cannot be imported by name.
    Host = Node = Any


def by_hand(node: Node, name: str = "eth0", number: int = 22) -> None:
    peer = name.replace("eth", "peer")
    for words in (
        f"ip link add name {name} type veth peer name {peer}",
        f"ip link set {peer} up",
        f"ip address add 10.{number}.0.2/24 dev {name}",
        f"ip address add fd00:{number}::2/64 dev {name} nodad",
        f"ip link set {name} up",
        f"ip route add 192.0.2.0/24 via 10.{number}.0.1 metric {number}",
        f"ip -6 route add 2001:db8::/64 via fd00:{number}::1 metric {number}",
    ):
        node(*words.split())


def request(node: Node, verb: str = "ADD", ifname: str = "eth0", **options: Any) -> Request:
    previous = {"cniVersion": "1.1.0", "interfaces": [{"name": ifname, "sandbox": node.netns}]}
    config = {
        "cniVersion": "1.1.0",
        "name": "net1",
        "type": "vrf",
        "vrfname": "blue",
        "prevResult": previous,
        **options,
    }
    return Request(verb, config, container_id="c1", netns=node.netns, ifname=ifname)


def perform(made: Request, verb: str) -> Any:
    return plugin.perform("vrf", made.with_config(made.config, command=verb))


def masters(node: Node) -> dict[str, str]:
    found = json.loads(node("ip", "-j", "link"))
    return {
        each["ifname"]: each.get("master", "")
        for each in found
        if each["ifname"][:4] in ("eth0", "eth1", "blue")
    }


def routes(node: Node, table: str) -> list[str]:
    lines = []
    for family in ("-4", "-6"):
        lines += node("sh", "-c", f"ip {family} route show table {table} 2>/dev/null || true").splitlines()
    return [" ".join(line.split()) for line in lines if not line.startswith(("fe80", "ff00"))]


def ways(node: Node, table: str) -> list[str]:
    """The routes that did not come with an address, as in a vrf the kernel makes those too."""
    return [line for line in routes(node, table) if " via " in line]


def test_a_kernel_without_is_told_of(
    host: Host, nothing: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = host.node("c1")
    by_hand(node)
    # Whatever this kernel has.
    unknown = link.create("blue", "nothing")
    monkeypatch.setattr(link, "create_vrf", lambda name, table, *, up: unknown)
    before = routes(node, "main")
    with pytest.raises(CniError, match="the kernel has no vrf") as refused:
        perform(request(node), "ADD")
    assert refused.value.code == PLUGIN_NOT_AVAILABLE
    assert masters(node) == {"eth0": ""}
    assert sorted(routes(node, "main")) == sorted(before)
    perform(request(node), "DEL")
    assert host.left() == nothing


def test_what_is_sent_is_what_pyroute2_reads() -> None:
    """The message that makes a domain, as pyroute2 reads it."""
    message = wire.encode(link.create_vrf("blue", 1042, up=True), 1)
    program = (
        "import json, sys, warnings; warnings.simplefilter('ignore')\n"
        "from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg\n"
        "m = ifinfmsg(bytes.fromhex(sys.argv[1])); m.decode()\n"
        "info = m.get_attr('IFLA_LINKINFO')\n"
        "print(json.dumps([m['header']['type'], m['flags'] & 1, m['change'] & 1, m.get_attr('IFLA_IFNAME'),\n"
        "    info.get_attr('IFLA_INFO_KIND'), info.get_attr('IFLA_INFO_DATA').get_attr('IFLA_VRF_TABLE')]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, message.hex()], check=True, capture_output=True, text=True
    )
    assert json.loads(done.stdout) == [16, 1, 1, "blue", "vrf", 1042]


@pytest.mark.usefixtures("vrf_kind")
def test_in_and_out_with_addresses_and_routes(host: Host, nothing: dict[str, list[str]]) -> None:
    node = host.node("c1")
    by_hand(node)
    before = sorted(routes(node, "main"))
    made = request(node)
    assert perform(made, "ADD").interfaces[0].name == "eth0"
    assert masters(node) == {"eth0": "blue", "blue": ""}
    # Table 1 is the first that nobody uses.
    assert ways(node, "1") == [
        "192.0.2.0/24 via 10.22.0.1 dev eth0 metric 22",
        "2001:db8::/64 via fd00:22::1 dev eth0 metric 22 pref medium",
    ]
    addresses = node("ip", "-o", "address", "show", "dev", "eth0")
    assert "10.22.0.2/24" in addresses
    assert "fd00:22::2/64" in addresses
    perform(made, "CHECK")
    node("ip", "link", "set", "eth0", "nomaster")
    with pytest.raises(CniError, match="not in the vrf blue"):
        perform(made, "CHECK")
    node("ip", "link", "set", "eth0", "master", "blue")
    for _ in range(2):
        perform(made, "DEL")
        assert masters(node) == {"eth0": ""}
        assert sorted(routes(node, "main")) == before
        assert "fd00:22::2/64" in node("ip", "-o", "address", "show", "dev", "eth0")
    assert host.left() == nothing


@pytest.mark.usefixtures("vrf_kind")
def test_in_and_out_at_once_keeps_what_the_kernel_keeps(host: Host) -> None:
    """An address that is kept while the interface is down is one that packets come to afterwards."""
    node = host.node("c1")
    by_hand(node)
    node("sysctl", "-q", "net.ipv6.conf.eth0.keep_addr_on_down=1")
    made = request(node)
    local = ("ip", "-6", "route", "show", "table", "all", "type", "local", "dev", "eth0")
    for _ in range(60):
        for verb in ("ADD", "DEL"):
            perform(made, verb)
            assert "local fd00:22::2 " in node(*local)


@pytest.mark.usefixtures("vrf_kind")
def test_two_interfaces_share_a_domain_and_the_last_takes_it_along(host: Host) -> None:
    node = host.node("c1")
    by_hand(node)
    by_hand(node, "eth1", 23)
    one, two = request(node), request(node, ifname="eth1", table=1)
    perform(one, "ADD")
    perform(two, "ADD")
    assert masters(node) == {"eth0": "blue", "eth1": "blue", "blue": ""}
    perform(one, "DEL")
    assert masters(node) == {"eth0": "", "eth1": "blue", "blue": ""}
    perform(two, "CHECK")
    perform(two, "DEL")
    assert masters(node) == {"eth0": "", "eth1": ""}
    # Another table than the one it has.
    perform(one, "ADD")
    with pytest.raises(CniError, match="different routing table 1"):
        perform(request(node, ifname="eth1", table=5), "ADD")
    # One that has a master.
    with pytest.raises(CniError, match="already a master set"):
        perform(request(node, name="net2"), "ADD")
    perform(one, "DEL")


@pytest.mark.usefixtures("vrf_kind")
def test_a_free_table_and_a_chosen_one(host: Host) -> None:
    node = host.node("c1")
    by_hand(node)
    by_hand(node, "eth1", 23)
    node("ip", "rule", "add", "from", "198.51.100.1", "lookup", "1")
    node("ip", "route", "add", "198.51.100.0/24", "dev", "peer0", "table", "2")
    perform(request(node), "ADD")
    perform(request(node, ifname="eth1", vrfname="red", name="net2", table=1042), "ADD")
    assert [line.split()[0] for line in ways(node, "3")] == ["192.0.2.0/24", "2001:db8::/64"]
    assert [line.split()[0] for line in ways(node, "1042")] == ["192.0.2.0/24", "2001:db8::/64"]
    perform(request(node), "DEL")
    perform(request(node, ifname="eth1", vrfname="red", name="net2"), "DEL")


def make(node: Node, kind: str) -> None:
    """A domain that the plugin did not make."""
    node("ip", "link", "add", "name", "blue", "type", kind, *(["table", "9"] if kind == "vrf" else []))
    node("ip", "link", "set", "blue", "up")


def test_one_that_was_there_stays(host: Host, vrf_kind: str) -> None:
    node = host.node("c1")
    by_hand(node)
    make(node, vrf_kind)
    perform(request(node), "ADD")
    perform(request(node), "DEL")
    perform(request(node), "DEL")
    assert masters(node) == {"eth0": "", "blue": ""}


def test_del_without_a_record_namespace_or_interface(
    host: Host, nothing: dict[str, list[str]], vrf_kind: str
) -> None:
    node = host.node("c1")
    by_hand(node)
    made = request(node, prevResult=None)
    perform(made, "DEL")
    # As the reference plugin leaves it.
    make(node, vrf_kind)
    node("ip", "link", "set", "eth0", "master", "blue")
    perform(made, "DEL")
    assert masters(node) == {"eth0": ""}
    # The reference plugin's DEL failed without the interface.
    perform(request(node), "ADD")
    node("ip", "link", "del", "eth0")
    with pytest.raises(CniError, match="no interface"):
        perform(request(node), "CHECK")
    perform(made, "DEL")
    assert masters(node) == {}
    by_hand(node)
    perform(request(node), "ADD")
    perform(request(node), "GC")
    assert masters(node) == {"eth0": ""}
    perform(request(node), "ADD")
    node.vanish()
    perform(made, "DEL")
    made.netns = None
    perform(made, "DEL")
    made.netns = node.netns
    with pytest.raises(CniError) as refused:
        perform(request(node), "ADD")
    assert refused.value.code == UNKNOWN_CONTAINER
    assert host.left() == nothing


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"prevResult": None}, 6),
        ({"vrfname": ""}, INVALID_CONFIG),
        ({"vrfname": "a/b"}, INVALID_CONFIG),
        ({"vrfname": "a-name-that-is-too-long"}, INVALID_CONFIG),
        ({"vrfname": 5}, INVALID_CONFIG),
        ({"vrfname": "peer0"}, INVALID_CONFIG),
        ({"table": -1}, INVALID_CONFIG),
        ({"table": 1 << 32}, INVALID_CONFIG),
    ],
)
def test_what_cannot_be_is_refused(
    host: Host, nothing: dict[str, list[str]], options: dict[str, Any], code: int
) -> None:
    node = host.node("c1")
    by_hand(node)
    with pytest.raises(CniError) as refused:
        perform(request(node, **options), "ADD")
    assert refused.value.code == code
    assert masters(node) == {"eth0": ""}
    assert host.left() == nothing
