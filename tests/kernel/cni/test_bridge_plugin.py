"""bridge: the talk's own file, gateways, options, what is left when it fails, CHECK, DEL and GC."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from cni import plugin, state
from cni.errors import INVALID_CONFIG, INVALID_ENVIRONMENT, INVALID_NETNS, PLUGIN_NOT_AVAILABLE, CniError
from cni.request import Request
from fixtures.bridging import bridge, links
from linux import namespaces
from linux.netlink import route
from linux.netlink.socket import ROUTE, Socket, open_in

if TYPE_CHECKING:
    from pathlib import Path

    # The fixtures' classes live in conftest.py, which cannot be imported by name.
    Host = Node = Any

# Slide 18 of the talk.
TALK = {"name": "mynet", "type": "bridge", "ipam": {"type": "host-local", "subnet": "10.10.0.0/16"}}
# Its gateway is in no network of the container.
BAD_ROUTE = {
    "type": "host-local",
    "subnet": "10.22.0.0/24",
    "routes": [{"dst": "10.44.0.0/16", "gw": "172.31.0.1"}],
}


def addresses(link: dict[str, Any]) -> list[str]:
    found = [each for each in link["addr_info"] if each["scope"] == "global"]
    return [f"{each['local']}/{each['prefixlen']}" for each in found]


def request(host: Host, verb: str, config: dict[str, Any], node: Node, **more: Any) -> Any:
    """One plugin call, without a runtime around it."""
    if "ipam" in config:
        config = {**config, "ipam": {**config["ipam"], "dataDir": str(host.leases)}}
    more = {"container_id": node.name, "netns": node.netns, "ifname": "eth0", **more}
    return plugin.perform("bridge", Request(verb, config, **more))


@pytest.mark.parametrize("more", [{}, {"isGateway": True}, {"isGateway": True, "ipMasq": True}])
def test_the_talks_network_works_unchanged(
    host: Host, nothing: dict[str, list[str]], more: dict[str, Any]
) -> None:
    one, two = host.node("c1"), host.node("c2")
    for node, address in ((one, "10.10.0.2/16"), (two, "10.10.0.3/16")):
        result = request(host, "ADD", {**TALK, **more}, node)
        assert result.to_json("0.1.0") == {
            "cniVersion": "0.1.0",
            "ip4": {"ip": address, "gateway": "10.10.0.1"},
            "dns": {},
        }
    two.serve(80, "two")
    assert one.ask("10.10.0.3", 80) == "two 10.10.0.2"
    assert addresses(links()["cni0"]) == (["10.10.0.1/16"] if more else [])
    for node in (one, two, one):
        request(host, "DEL", {**TALK, **more}, node)
    assert host.left() == {**nothing, "links": ["cni0"]}


def test_a_gateway_for_two_families(host: Host, nothing: dict[str, list[str]]) -> None:
    one, two = host.node("c1"), host.node("c2")
    network = host.network(bridge())
    result = host.add(network, one)
    host.add(network, two)
    inside, outside = links(one)["eth0"], links()
    assert addresses(inside) == ["10.22.0.2/24", "fd00:22::2/64"]
    assert addresses(outside["br0"]) == ["10.22.0.1/24", "fd00:22::1/64"]
    assert not any(each.get("tentative") for each in inside["addr_info"])
    port = result.interfaces[1].name
    assert [each.mac for each in result.interfaces] == [
        outside["br0"]["address"],
        outside[port]["address"],
        inside["address"],
    ]
    assert outside[port]["master"] == "br0"
    # What others do at once works at once, in both families.
    two.serve(80, "two")
    host.serve(81, "host")
    for gateway, address, own in (
        ("10.22.0.1", "10.22.0.3", "10.22.0.2"),
        ("fd00:22::1", "fd00:22::3", "fd00:22::2"),
    ):
        assert one.ask(address, 80) == f"two {own}"
        assert one.ask(gateway, 81) == f"host {own}"
    host.check(network, one)
    for node in (one, two, one, two):
        host.delete(network, node)
    assert host.left() == {**nothing, "links": ["br0"]}


def test_masquerade_ends_at_the_subnet(host: Host, nothing: dict[str, list[str]]) -> None:
    outside, one, two = host.outside(), host.node("c1"), host.node("c2")
    network = host.network(bridge(ipMasq=True))
    for node in (one, two):
        host.add(network, node)
    outside.serve(80, "outside")
    two.serve(80, "two")
    # Outside knows no way back to the containers: without masquerade there would be no answer.
    assert one.ask("192.0.2.2", 80) == "outside 192.0.2.1"
    assert one.ask("2001:db8::2", 80) == "outside 2001:db8::1"
    assert one.ask("10.22.0.3", 80) == "two 10.22.0.2"
    assert one.ask("fd00:22::3", 80) == "two fd00:22::2"
    host.delete(network, one)
    with pytest.raises(OSError, match=r"timed out|unreachable"):
        one.ask("192.0.2.2", 80, timeout=0.3)
    assert two.ask("192.0.2.2", 80) == "outside 192.0.2.1"
    host.delete(network, two)
    assert host.left() == {**nothing, "links": ["up0", "br0"]}


def test_a_namespace_that_a_user_namespace_owns(host: Host) -> None:
    """A pod with a user namespace: its network namespace is not the host's root's."""
    holder = subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", "echo; exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        node = host.node("c1")
        network = host.network(bridge(ipMasq=True, macspoofchk=True))
        netns = f"/proc/{holder.pid}/ns/net"
        host.add(network, node, netns=netns)
        host.serve(81, "host")
        with namespaces.inside(netns):
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        node.netns = netns
        assert node.ask("10.22.0.1", 81) == "host 10.22.0.2"
        assert node.ask("fd00:22::1", 81) == "host fd00:22::2"
        host.check(network, node, netns=netns)
        host.delete(network, node, netns=netns)


def test_arpspoofchk_needs_addresses(host: Host, nothing: dict[str, list[str]]) -> None:
    config = {"cniVersion": "1.0.0", "name": "net1", **bridge(arpspoofchk=True), "ipam": {}}
    with pytest.raises(CniError, match="needs to know the addresses") as refused:
        request(host, "ADD", config, host.node("c1"))
    assert refused.value.code == INVALID_CONFIG
    assert host.left() == nothing


def test_options_of_the_interface_and_the_bridge(host: Host) -> None:
    node = host.node("c1")
    network = host.network(bridge(mtu=1400, promiscMode=True, dns={"nameservers": ["192.0.2.53"]}))
    result = host.add(network, node)
    inside, outside = links(node)["eth0"], links()
    assert (inside["mtu"], outside["br0"]["mtu"]) == (1400, 1400)
    assert "PROMISC" in outside["br0"]["flags"]
    assert result.dns.nameservers == ("192.0.2.53",)
    # A second network on the same bridge, with an interface of another name.
    other = host.network({**bridge(), "ipam": {"type": "host-local", "subnet": "10.22.0.0/24"}}, name="net2")
    host.add(other, node, ifname="eth1")
    assert set(links(node)) == {"lo", "eth0", "eth1"}
    host.delete(other, node, ifname="eth1")
    host.check(network, node)


def test_an_ipv6_address_is_taken_the_moment_that_add_returns(host: Host) -> None:
    config = {"cniVersion": "1.0.0", "name": "net1", **bridge()}
    for number in range(8):
        node = host.node(f"c{number}")
        own = request(host, "ADD", config, node).ips[1].address
        (inside,) = open_in(node.netns, ROUTE)
        with inside, Socket(ROUTE) as outside:
            assert route.is_local(inside, own.address)
            assert route.is_local(outside, "fd00:22::1")


def test_duplicate_detection_when_asked_for(host: Host) -> None:
    node = host.node("c1")
    host.add(host.network(bridge(enabledad=True)), node)
    flags = [each for each in links(node)["eth0"]["addr_info"] if each["family"] == "inet6"]
    assert not any(each.get("tentative") or each.get("nodad") for each in flags)


def test_layer_two_without_addresses(host: Host, nothing: dict[str, list[str]]) -> None:
    node = host.node("c1")
    network = host.network({"type": "bridge", "bridge": "br0"})
    assert host.add(network, node).ips == ()
    assert "UP" in links(node)["eth0"]["flags"]
    host.check(network, node)
    host.delete(network, node)
    down = host.network({"type": "bridge", "bridge": "br0", "disableContainerInterface": True})
    host.add(down, node)
    assert "UP" not in links(node)["eth0"]["flags"]
    host.delete(down, node)
    assert host.left() == {**nothing, "links": ["br0"]}


def test_two_ranges_of_one_network_have_two_gateways(host: Host) -> None:
    """The reference cannot: a bridge that has one IPv4 address refuses another."""
    ranges = [[{"subnet": "10.22.0.0/24"}], [{"subnet": "10.33.0.0/24"}]]
    network = host.network(bridge(ipam={"type": "host-local", "ranges": ranges}))
    for name in ("c1", "c2"):
        host.add(network, host.node(name))
    assert addresses(links()["br0"]) == ["10.22.0.1/24", "10.33.0.1/24"]


@pytest.mark.parametrize(
    ("routes", "wanted"),
    [
        ([], [("default", "10.22.0.1")]),
        ([{"dst": "0.0.0.0/0"}], [("default", "10.22.0.1")]),
        ([{"dst": "0.0.0.0/0", "gw": "10.22.0.9"}], [("default", "10.22.0.9")]),
    ],
)
def test_the_default_gateway_unless_the_ipam_plugin_has_one(
    host: Host, routes: list[dict[str, str]], wanted: list[tuple[str, str]]
) -> None:
    node = host.node("c1")
    ipam = {"type": "host-local", "subnet": "10.22.0.0/24", "routes": routes}
    result = host.add(host.network(bridge(isGateway=False, isDefaultGateway=True, ipam=ipam)), node)
    found = json.loads(node("ip", "-j", "-4", "route", "show", "default"))
    assert [(each["dst"], each["gateway"]) for each in found] == wanted
    assert len(result.routes) == 1
    assert addresses(links()["br0"]) == ["10.22.0.1/24"]


def test_a_bridge_with_another_address(host: Host, nothing: dict[str, list[str]]) -> None:
    node = host.node("c1")
    subprocess.run(["ip", "link", "add", "br0", "up", "type", "bridge"], check=True)
    subprocess.run(["ip", "address", "add", "10.99.0.1/24", "dev", "br0"], check=True)
    network = host.network(bridge())
    with pytest.raises(CniError, match="already has an IP address different from") as refused:
        host.add(network, node)
    assert refused.value.code == INVALID_CONFIG
    assert addresses(links()["br0"]) == ["10.99.0.1/24"]
    assert host.left() == {**nothing, "links": ["br0"]}
    host.add(host.network(bridge(forceAddress=True)), node)
    assert addresses(links()["br0"]) == ["10.22.0.1/24", "fd00:22::1/64"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hairpinMode": True, "promiscMode": True}, "hairpin"),
        ({"disableContainerInterface": True}, "disableContainerInterface"),
        ({"vlan": 4095}, "vlan"),
        ({"vlanTrunk": [{"minID": 5}]}, "vlanTrunk"),
        ({"vlanTrunk": [{"minID": 5, "maxID": 4}]}, "vlanTrunk"),
        ({"vlanTrunk": [{}]}, "vlanTrunk"),
        ({"mtu": -1}, "mtu"),
        ({"mtu": "1500"}, "mtu"),
        ({"mtu": 10}, "mtu less than device minimum"),
        ({"bridge": "a/b"}, "name"),
        ({"bridge": "x" * 16}, "name"),
        ({"bridge": "lo"}, "not a bridge"),
        ({"isGateway": "yes"}, "isGateway"),
        ({"ipMasq": True, "ipMasqBackend": "magic"}, "ipMasqBackend"),
        ({"runtimeConfig": {"mac": "01:00:00:00:00:01"}}, "MAC"),
        ({"runtimeConfig": {"mac": "zz"}}, "MAC"),
        ({"args": {"cni": {"mac": "00:00:00:00:00:00"}}}, "MAC"),
        ({"ipam": BAD_ROUTE}, "route to 10.44.0.0/16"),
        ({"ipam": {"type": "host-local", "subnet": "nonsense"}}, "nonsense"),
        ({"ipam": {"type": "../../evil"}}, "plugin name"),
        ({"ipam": {"type": "does-not-exist"}}, "failed to find plugin"),
    ],
)  # fmt: skip
def test_nothing_is_left_of_an_add_that_fails(
    host: Host, nothing: dict[str, list[str]], options: dict[str, Any], message: str
) -> None:
    node = host.node("c1")
    config = bridge(**options) | {"name": "net1", "cniVersion": "1.1.0"}
    with pytest.raises(CniError) as refused:
        request(host, "ADD", config, node)
    assert message in str(refused.value)
    assert host.left() == nothing
    assert set(links(node)) == {"lo"}


TRY = ("ip", "link", "add", "try0", "type", "bridge", "vlan_filtering", "1")


def test_a_kernel_without_vlans_on_bridges(host: Host, nothing: dict[str, list[str]]) -> None:
    """What the plugin does where there are some is in test_bridge_vlans.py."""
    node = host.node("c1")
    if subprocess.run(TRY, check=False).returncode == 0:
        pytest.skip("this kernel has VLANs on bridges")
    for options in ({"vlan": 100}, {"vlanTrunk": [{"id": 5}]}):
        with pytest.raises(CniError, match="hint: it needs CONFIG_BRIDGE_VLAN_FILTERING") as refused:
            request(host, "ADD", bridge(**options) | {"name": "n"}, node)
        assert refused.value.code == PLUGIN_NOT_AVAILABLE
        assert host.left() == nothing


def test_the_containers_interface_must_not_exist(host: Host, nothing: dict[str, list[str]]) -> None:
    node = host.node("c1")
    node("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "other")
    with pytest.raises(CniError, match="has an interface eth0 already") as refused:
        host.add(host.network(bridge()), node)
    assert refused.value.code == INVALID_ENVIRONMENT
    assert set(links(node)) == {"lo", "eth0", "other"}
    assert host.left() == nothing


def test_a_second_add_does_not_harm_the_first(host: Host) -> None:
    node = host.node("c1")
    network = host.network(bridge(ipMasq=True))
    host.add(network, node)
    with pytest.raises(CniError, match="already"):
        host.add(network, node)
    host.check(network, node)


def test_the_hosts_own_namespace_is_refused_before_any_work(
    host: Host, nothing: dict[str, list[str]]
) -> None:
    node = host.node("c1")
    for verb in ("ADD", "DEL"):
        with pytest.raises(CniError) as refused:
            request(host, verb, bridge() | {"name": "n"}, node, netns="/proc/self/ns/net")
        assert refused.value.code == INVALID_NETNS
    assert host.left() == nothing


@pytest.mark.parametrize("netns", ["/run/netns/does-not-exist", "/proc/self/status"])
def test_what_is_no_namespace_is_refused(host: Host, nothing: dict[str, list[str]], netns: str) -> None:
    with pytest.raises(CniError, match="namespace"):
        request(host, "ADD", bridge() | {"name": "n"}, host.node("c1"), netns=netns)
    assert host.left() == nothing


def test_hardware_addresses_by_who_asks(host: Host) -> None:
    macs = {"runtimeConfig": {"mac": "02:00:00:00:00:01"}, "args": {"cni": {"mac": "02:00:00:00:00:02"}}}
    for number, wanted in ((3, "01"), (2, "02"), (1, "03")):
        node = host.node(f"c{number}")
        options = dict(list(macs.items())[3 - number :])
        arguments = "MAC=02:00:00:00:00:03;IP=10.22.0.9"[: None if number == 1 else 21]
        given = request(host, "ADD", bridge(**options) | {"name": "n"}, node, args=arguments)
        assert (str(given.ips[0].address) == "10.22.0.9/24") == (number == 1)
        assert links(node)["eth0"]["address"] == f"02:00:00:00:00:{wanted}"


def test_the_bridges_address_stays_when_ports_come_and_go(host: Host) -> None:
    network = host.network(bridge())
    nodes = [host.node(f"c{number}") for number in range(4)]
    seen = set()
    for node in nodes:
        host.add(network, node)
        seen.add(links()["br0"]["address"])
    for node in nodes:
        host.delete(network, node)
        seen.add(links()["br0"]["address"])
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (("c1", "ip address del 10.22.0.2/24 dev eth0"), "lacks addresses: 10.22.0.2/24"),
        (("c1", "ip route del default"), "route to 0.0.0.0/0 is missing"),
        (("c1", "ip link del eth0"), "no interface eth0"),
        (("c1", "ip link set eth0 address 02:00:00:00:00:99"), "MAC address"),
        (("host", "ip link set {port} nomaster"), "not a port of br0"),
        (("host", "ip link set {port} down"), "is down"),
        (("host", "ip link del br0"), "bridge br0 is missing"),
        (("host", "nft delete table inet rkt_masquerade"), "masquerade"),
        (("host", "nft delete element inet rkt_masquerade sources4 {{ 10.22.0.2 }}"), "masquerade"),
        (("host", "nft delete table bridge rkt_macspoof"), "forged MAC"),
        (("host", "rm {leases}/net1/10.22.0.2 {leases}/net1/fd00:22::2"), "no address is allocated"),
    ],
)
def test_check_sees_the_damage_and_del_still_works(
    host: Host, nothing: dict[str, list[str]], damage: tuple[str, str], message: str
) -> None:
    node = host.node("c1")
    network = host.network(bridge(ipMasq=True, macspoofchk=True))
    result = host.add(network, node)
    host.check(network, node)
    where, command = damage
    words = command.format(port=result.interfaces[1].name, leases=host.leases).split()
    if where == "host":
        subprocess.run(words, check=True)
    else:
        node(*words)
    with pytest.raises(CniError, match=message):
        host.check(network, node)
    host.delete(network, node)
    left = host.left()
    assert left | {"links": []} == nothing
    assert set(left["links"]) <= {"br0"}


def test_del_in_every_order(host: Host, nothing: dict[str, list[str]]) -> None:
    node = host.node("c1")
    network = host.network(bridge(ipMasq=True, macspoofchk=True))
    config = bridge(ipMasq=True, macspoofchk=True) | {"name": "net1", "cniVersion": "1.1.0"}
    request(host, "DEL", config, node)  # before any ADD
    for netns in (node.netns, None, "/run/netns/gone"):
        request(host, "DEL", config, node, netns=netns)
    assert host.left() == nothing
    # Without prevResult, without a namespace, with a namespace that is gone, twice each.
    for netns in (node.netns, None, "/run/netns/gone"):
        request(host, "ADD", config, node)
        for _ in range(2):
            request(host, "DEL", config, node, netns=netns)
            assert host.left() == {**nothing, "links": ["br0"]}
        assert set(links(node)) == {"lo"}
    host.add(network, node)
    node.vanish()
    host.delete(network, node)
    host.delete(network, node)
    assert host.left() == {**nothing, "links": ["br0"]}


def test_del_leaves_an_interface_of_that_name_that_is_another(host: Host) -> None:
    """The name of the host's end is known; somebody may have taken it since."""
    node = host.node("c1")
    config = bridge() | {"name": "net1", "cniVersion": "1.1.0"}
    port = request(host, "ADD", config, node).interfaces[1].name
    subprocess.run(["ip", "link", "del", port], check=True)
    subprocess.run(["ip", "link", "add", port, "type", "veth", "peer", "name", "other"], check=True)
    request(host, "DEL", config, node)
    assert port in links()


def test_a_taken_name_for_the_hosts_end_is_no_obstacle(host: Host) -> None:
    node = host.node("c1")
    config = bridge() | {"name": "net1", "cniVersion": "1.1.0"}
    first = request(host, "ADD", config, node).interfaces[1].name
    request(host, "DEL", config, node)
    subprocess.run(["ip", "link", "add", first, "type", "veth", "peer", "name", "other"], check=True)
    second = request(host, "ADD", config, node).interfaces[1].name
    assert second != first
    request(host, "DEL", config, node)
    assert {first, "other"} <= set(links())
    assert second not in links()


def test_del_without_a_record_by_prevresult_and_names(host: Host, nothing: dict[str, list[str]]) -> None:
    node = host.node("c1")
    config = bridge(ipMasq=True) | {"name": "net1", "cniVersion": "1.1.0"}
    result = request(host, "ADD", config, node)
    state.remove(Request("DEL", config, container_id="c1", ifname="eth0"), "bridge")
    request(host, "DEL", {**config, "prevResult": result.to_json("1.1.0")}, node)
    assert host.left() == {**nothing, "links": ["br0"]}
    assert set(links(node)) == {"lo"}


def test_gc_takes_what_is_not_valid_and_in_the_end_the_bridge(
    host: Host, nothing: dict[str, list[str]]
) -> None:
    one, two = host.node("c1"), host.node("c2")
    config = bridge(ipMasq=True, macspoofchk=True) | {"name": "net1", "cniVersion": "1.1.0"}
    for node in (one, two):
        request(host, "ADD", config, node)
    two.vanish()
    valid = [{"containerID": "c1", "ifname": "eth0"}]
    request(host, "GC", {**config, "cni.dev/valid-attachments": valid}, one, netns=None)
    assert set(links(one)) == {"lo", "eth0"}
    left = host.left()
    assert sorted(left["records"]) == ["bridge c1 eth0", "host-local c1 eth0"]
    assert len(left["links"]) == 2
    host.serve(81, "host")
    assert one.ask("10.22.0.1", 81) == "host 10.22.0.2"
    request(host, "GC", {**config, "cni.dev/valid-attachments": []}, one, netns=None)
    assert host.left() == nothing


def test_gc_leaves_a_bridge_that_it_did_not_make(host: Host, nothing: dict[str, list[str]]) -> None:
    subprocess.run(["ip", "link", "add", "br0", "up", "type", "bridge"], check=True)
    node = host.node("c1")
    config = bridge() | {"name": "net1", "cniVersion": "1.1.0"}
    request(host, "ADD", config, node)
    request(host, "GC", {**config, "cni.dev/valid-attachments": []}, node, netns=None)
    assert host.left() == {**nothing, "links": ["br0"]}


def test_status_asks_the_ipam_plugin(host: Host) -> None:
    config = bridge() | {"name": "net1", "cniVersion": "1.1.0"}
    config["ipam"] = {"type": "host-local", "subnet": "10.22.0.0/30"}
    node = host.node("c1")
    request(host, "STATUS", config, node)
    request(host, "ADD", config, node)
    with pytest.raises(CniError, match="no IP addresses available"):
        request(host, "STATUS", config, node)


def test_results_in_every_version(host: Host) -> None:
    for number, version in enumerate(("0.2.0", "0.3.1", "0.4.0", "1.0.0")):
        node = host.node(f"c{number}")
        network = host.network(bridge(), version=version)
        assert host.add(network, node).to_json(version)["cniVersion"] == version
        host.delete(network, node)


def test_a_plugin_process_loads_little(host: Host, checkout: Path) -> None:
    """A call lasts some 20 ms: each of these modules would be a quarter of it."""
    node = host.node("c1")
    config = bridge(ipMasq=True) | {"name": "net1", "cniVersion": "1.1.0"}
    config["ipam"]["dataDir"] = str(host.leases)
    program = (
        "import sys\n"
        f"sys.path.insert(0, {str(checkout / 'src')!r})\n"
        "from cni import plugin, state\n"
        f"state.DIRECTORY = {state.DIRECTORY!r}\n"
        "status = plugin.main('bridge')\n"
        "print(*sys.modules, file=sys.stderr)\n"
        "sys.exit(status)\n"
    )
    variables = {"CNI_CONTAINERID": "c1", "CNI_NETNS": node.netns, "CNI_IFNAME": "eth0", "CNI_PATH": "/none"}
    for verb in ("ADD", "DEL"):
        done = subprocess.run(
            ["/usr/bin/python3", "-I", "-S", "-c", program],
            input=json.dumps(config),
            env={**variables, "CNI_COMMAND": verb},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        heavy = {"typing", "re", "enum", "socket", "json", "subprocess", "hashlib", "ipaddress", "pathlib"}
        assert heavy & set(done.stderr.split()) == set()


@pytest.mark.parametrize(
    ("options", "words", "message"),
    [
        ({"portIsolation": True}, ("bridge", "link", "set", "PORT", "isolated", "off"), "not isolated"),
        (
            {"hairpinMode": True},
            ("bridge", "link", "set", "PORT", "hairpin", "off"),
            "hairpin mode of .* is off",
        ),
        ({"promiscMode": True}, ("ip", "link", "set", "br0", "promisc", "off"), "br0 is not promiscuous"),
    ],
)
def test_check_sees_modes_that_somebody_changed(
    host: Host, options: dict[str, Any], words: tuple[str, ...], message: str
) -> None:
    node = host.node("c1")
    network = host.network(bridge(**options))
    port = host.add(network, node).interfaces[1].name
    host.check(network, node)
    command = [word.replace("PORT", port) for word in words]
    if "PORT" in words:
        command.insert(3, "dev")
    subprocess.run(command, check=True)
    with pytest.raises(CniError, match=message):
        host.check(network, node)
