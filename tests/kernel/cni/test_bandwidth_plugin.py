"""bandwidth: what gets through is what was asked for, and all of it is gone after DEL."""

from __future__ import annotations

import errno
import json
import socket
import subprocess
import sys
import time
from hashlib import sha512
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from cni import plugin
from cni.errors import INVALID_CONFIG, PLUGIN_NOT_AVAILABLE, UNKNOWN_CONTAINER, CniError
from cni.request import Request
from linux import namespaces
from linux.netlink import link, traffic
from linux.netlink.socket import Socket as Netlink

if TYPE_CHECKING:
    # The fixtures' classes live in conftest.py, which cannot be imported by name.
    Host = Node = Any

MEGABIT = 1_000_000
CAPABLE = {"type": "bandwidth", "capabilities": {"bandwidth": True}}


def bridge() -> dict[str, Any]:
    ipam = {"type": "host-local", "subnet": "10.22.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]}
    return {"type": "bridge", "bridge": "br0", "isGateway": True, "ipam": ipam}


def limits(ingress: int = 0, egress: int = 0, burst: int = 800_000) -> dict[str, int]:
    found = {}
    for name, rate in (("ingress", ingress), ("egress", egress)):
        if rate:
            found[f"{name}Rate"], found[f"{name}Burst"] = rate, burst
    return found


def disciplines(*, queues: bool = False) -> list[str]:
    """Those that a plugin may have made, or the `queues` below them, which not every kernel has."""
    found = json.loads(subprocess.check_output(["tc", "-j", "qdisc", "show"]))
    kinds = ("fq_codel",) if queues else ("tbf", "htb", "ingress", "clsact")
    return [f"{each['kind']} {each['dev']}" for each in found if each["kind"] in kinds]


def has_fq_codel() -> bool:
    with Netlink() as netlink:
        try:
            netlink.request(traffic.add_fq_codel(1, at=traffic.ROOT, named=traffic.handle(9)))
        except OSError as failed:
            if failed.errno != errno.ENOENT:
                raise
            return False
        netlink.request(traffic.delete_qdisc(1, at=traffic.ROOT))
    return True


def devices() -> list[str]:
    return [
        each["ifname"]
        for each in json.loads(subprocess.check_output(["ip", "-j", "link", "show", "type", "ifb"]))
    ]


def connection(sender: Node | None, receiver: Node | None, address: str) -> list[socket.socket]:
    """The two ends of a TCP connection; None is the host."""
    made = []
    for each in (sender, receiver):
        with namespaces.inside("/proc/thread-self/ns/net" if each is None else each.netns):
            made.append(socket.socket())
    client, server = made
    with server:
        server.bind((address, 0))
        server.listen(1)
        server.settimeout(10)
        client.connect(server.getsockname())
        return [client, server.accept()[0]]


class Flow:
    """A TCP connection that always has something to send; `rate` is what gets through."""

    def __init__(self, sender: Node | None, receiver: Node | None, address: str) -> None:
        self._client, self._server = connection(sender, receiver, address)
        self._server.settimeout(10)
        self._thread = Thread(target=self._send)
        self._thread.start()

    def rate(self, seconds: float) -> float:
        """Bits of payload a second that arrive, as the kernel counts them: this process may have to wait."""
        start, before = time.monotonic(), self._arrived()
        while (now := time.monotonic()) - start < seconds:
            self._server.recv(1 << 16)
        return (self._arrived() - before) * 8 / (now - start)

    def close(self) -> None:
        self._server.close()
        self._thread.join()
        self._client.close()

    def _arrived(self) -> int:
        # tcpi_bytes_received of struct tcp_info
        info = self._server.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        return int.from_bytes(info[128:136], sys.byteorder)

    def _send(self) -> None:
        block = bytes(1 << 14)
        try:
            while True:
                self._client.sendall(block)
        except OSError:
            return


@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_the_rate_is_what_was_asked_for(host: Host, nothing: dict[str, list[str]], direction: str) -> None:
    node = host.node("c1")
    network = host.network(bridge(), CAPABLE)
    rate = 4 * MEGABIT
    given = {"bandwidth": limits(**{direction: rate}, burst=640_000)}
    host.add(network, node, capability_args=given)
    host.check(network, node, capability_args=given)
    flow = Flow(None, node, "10.22.0.2") if direction == "ingress" else Flow(node, None, "10.22.0.1")
    flow.rate(0.5)  # the burst
    # On a busy machine the sender may have been kept waiting: then once more.
    measured = []
    while len(measured) < 4 and not any(0.9 * rate < each < 1.1 * rate for each in measured):
        # Of each full packet of 1514 bytes, 1448 are payload.
        measured.append(flow.rate(2.0) * 1514 / 1448)
    flow.close()
    assert any(0.9 * rate < each < 1.1 * rate for each in measured), measured
    host.delete(network, node, capability_args=given)
    assert devices() == disciplines() == []
    assert host.left() == {**nothing, "links": ["br0"]}


def test_subnets_that_are_shaped_and_that_are_not(host: Host) -> None:
    node = host.node("c1")
    for key, is_limited in (("unshapedSubnets", False), ("shapedSubnets", True)):
        # The host's address is in it, the container's is not: it is the other side that counts.
        given = {**limits(4 * MEGABIT, 4 * MEGABIT, 160_000), key: ["fd00:22::/64", "10.22.0.1/32"]}
        network = host.network(bridge(), {"type": "bandwidth", **given})
        ours = host.add(network, node).ips[0].address.address
        host.check(network, node)
        for flow in (Flow(node, None, "10.22.0.1"), Flow(None, node, ours)):
            # Unlimited it is gigabits; so short a time says no more.
            flow.rate(0.1)
            assert (flow.rate(0.2) < 40 * MEGABIT) == is_limited
            flow.close()
        host.delete(network, node)
        assert devices() == disciplines() == []


def request(node: Node, verb: str = "ADD", **options: Any) -> Request:
    """For a tap of the host, with nothing of that kind in the container."""
    interfaces = [{"name": "tap0"}, {"name": "eth0", "sandbox": node.netns}]
    previous = {"cniVersion": "1.1.0", "interfaces": options.pop("interfaces", interfaces)}
    config = {"cniVersion": "1.1.0", "name": "net1", "type": "bandwidth", "prevResult": previous, **options}
    return Request(verb, config, container_id="c1", netns=node.netns, ifname="eth0")


def perform(made: Request, verb: str) -> Any:
    return plugin.perform("bandwidth", made.with_config(made.config, command=verb))


def command(*words: str) -> None:
    subprocess.run(words, check=True)


def tap() -> None:
    command("ip", "tuntap", "add", "tap0", "mode", "tap")
    command("ip", "link", "set", "tap0", "up")


def ifb_name(what: str) -> str:
    return "bwp" + sha512(what.encode()).hexdigest()[:12]


def rate_of_tap() -> int:
    with Netlink() as netlink:
        found = traffic.qdisc(netlink, index_of_tap(netlink))
    return 0 if found is None else found.rate


def index_of_tap(netlink: Netlink) -> int:
    found = link.get(netlink, "tap0")
    return 0 if found is None else found.index


def test_a_tap_of_the_host_which_stays(host: Host, nothing: dict[str, list[str]]) -> None:
    node = host.node("c1")
    tap()
    before = host.left()
    made = request(node, **limits(MEGABIT, 2 * MEGABIT))
    result = perform(made, "ADD").to_json("1.1.0")
    ifb = result["interfaces"][2]
    # The reference plugin's name, so that its DEL finds it.
    assert ifb["name"] == ifb_name("net1c1")
    assert sorted(disciplines()) == sorted(["tbf tap0", "ingress tap0", f"tbf {ifb['name']}"])
    if has_fq_codel():
        assert {f"fq_codel {name}" for name in ("tap0", ifb["name"])} <= set(disciplines(queues=True))
    perform(made, "CHECK")
    for _ in range(2):
        perform(made, "DEL")
        assert disciplines() == devices() == []
    assert host.left() == before


def test_filters_of_somebody_else_stay(host: Host) -> None:
    node = host.node("c1")
    tap()
    command("tc", "qdisc", "add", "dev", "tap0", "clsact")
    command("ip", "link", "add", "name", "other0", "type", "ifb")
    words = "prio 7 protocol ip u32 match u32 0 0 action mirred egress mirror dev other0"
    command("tc", "filter", "add", "dev", "tap0", "ingress", *words.split())
    made = request(node, **limits(0, MEGABIT))
    perform(made, "ADD")
    perform(made, "CHECK")
    perform(made, "DEL")
    assert disciplines() == ["clsact tap0"]
    with Netlink() as netlink:
        found = traffic.filters(netlink, index_of_tap(netlink), parent=traffic.INGRESS_FILTERS)
    assert {each.priority for each in found} == {7}
    assert devices() == ["other0"]
    # And a root discipline is not replaced.
    command("tc", "qdisc", "add", "dev", "tap0", "root", "handle", "5:", "htb")
    with pytest.raises(CniError, match="already") as refused:
        perform(request(node, **limits(MEGABIT)), "ADD")
    assert refused.value.code == INVALID_CONFIG
    assert "htb tap0" in disciplines()


def test_two_interfaces_of_a_container_in_one_network(host: Host) -> None:
    """The reference plugin's device has no interface in its name: the second ADD failed."""
    node = host.node("c1")
    network = host.network(bridge(), {"type": "bandwidth", **limits(MEGABIT, MEGABIT)})
    for ifname in ("eth0", "eth1"):
        host.add(network, node, ifname=ifname)
    assert len(devices()) == 2
    # A second DEL, or one without an ADD, has no record of its own: it takes nobody else's device.
    for ifname in ("eth1", "eth1", "eth7"):
        host.delete(network, node, ifname=ifname)
    assert devices() == [ifb_name("net1c1")]
    host.check(network, node, ifname="eth0")
    host.add(network, node, ifname="eth1")
    host.delete(network, node, ifname="eth0")
    host.check(network, node, ifname="eth1")
    # What a killed ADD left under the second name, without a record, is no hindrance.
    host.delete(network, node, ifname="eth1")
    command("ip", "link", "add", "name", ifb_name("net1c1"), "type", "ifb")
    command("ip", "link", "add", "name", ifb_name("net1c1eth0"), "type", "ifb")
    host.add(network, node)
    host.delete(network, node)
    assert len(devices()) == 1
    # And without a record, DEL takes the one of the reference plugin's name.
    host.delete(network, node)
    assert devices() == []


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        ({"ingressRate": 1000}, INVALID_CONFIG, "burst must also be set"),
        ({"egressBurst": 1000}, INVALID_CONFIG, "rate must also be set"),
        ({"ingressRate": 5, "ingressBurst": 8000}, INVALID_CONFIG, "less than a byte"),
        ({"ingressRate": 5000, "ingressBurst": (1 << 35) - 8}, INVALID_CONFIG, "4GB"),
        ({"ingressRate": -5, "ingressBurst": 5}, INVALID_CONFIG, "not between"),
        ({"ingressRate": "5", "ingressBurst": 5}, INVALID_CONFIG, "not an integer"),
        ({**limits(MEGABIT), "shapedSubnets": ["hello"]}, INVALID_CONFIG, "prefix length"),
        ({**limits(MEGABIT), "shapedSubnets": ["10.0.0.0/8"], "unshapedSubnets": ["::/0"]}, 7, "both"),
        ({**limits(MEGABIT), "interfaces": []}, INVALID_CONFIG, "cannot tell"),
        ({**limits(MEGABIT), "interfaces": [{"name": "tap0"}, {"name": "lo"}]}, INVALID_CONFIG, "tap0, lo"),
        ({**limits(MEGABIT), "prevResult": None}, 6, "prevResult missing"),
        # The reference plugin ended in a panic here.
        ({"prevResult": None}, 6, "prevResult missing"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_made(
    host: Host, options: dict[str, Any], code: int, says: str
) -> None:
    node = host.node("c1")
    tap()
    before = host.left()
    with pytest.raises(CniError, match=says) as refused:
        perform(request(node, **options), "ADD")
    assert refused.value.code == code
    assert (disciplines(), devices(), host.left()) == ([], [], before)


def test_no_limits_pass_the_result_on(host: Host) -> None:
    node = host.node("c1")
    for options in ({}, {"ingressRate": 0}, {"runtimeConfig": {}}):
        assert len(perform(request(node, **options), "ADD").interfaces) == 2
        perform(request(node, **options), "CHECK")
        perform(request(node, **options), "DEL")


def test_the_configuration_comes_before_the_capability(host: Host) -> None:
    node = host.node("c1")
    tap()
    made = request(
        node,
        ingressRate=8 * MEGABIT,
        ingressBurst=80_000,
        runtimeConfig={"bandwidth": limits(MEGABIT, MEGABIT)},
    )
    perform(made, "ADD")
    assert disciplines() == ["tbf tap0"]
    assert rate_of_tap() == MEGABIT
    perform(made, "DEL")


def test_a_burst_of_less_than_a_packet_lets_packets_pass(host: Host) -> None:
    """As the reference's own example has it: there, nothing ever got through."""
    node = host.node("c1")
    network = host.network(bridge(), {"type": "bandwidth", **limits(MEGABIT, MEGABIT, 456)})
    host.add(network, node)
    host.check(network, node)
    node.serve(80, "hello")
    assert host.ask("10.22.0.2", 80) == "hello 10.22.0.1"
    host.delete(network, node)


@pytest.mark.parametrize(
    "damage",
    [
        "tc qdisc del dev tap0 root",
        "tc qdisc change dev tap0 root handle 1: tbf rate 3mbit burst 100000 latency 25ms",
        "tc qdisc change dev tap0 root handle 1: tbf rate 1mbit burst 4000 latency 25ms",
        "tc qdisc del dev tap0 ingress",
        "ip link set IFB down",
        "ip link del IFB",
        "ip link del tap0",
    ],
)
def test_check_finds_damage_and_del_works_all_the_same(host: Host, damage: str) -> None:
    node = host.node("c1")
    tap()
    made = request(node, **limits(MEGABIT, MEGABIT))
    ifb = perform(made, "ADD").interfaces[-1].name
    perform(made, "CHECK")
    command(*damage.replace("IFB", ifb).split())
    with pytest.raises(CniError) as refused:
        perform(made, "CHECK")
    assert refused.value.code in (101, INVALID_CONFIG)
    perform(made, "DEL")
    assert (disciplines(), devices()) == ([], [])


@pytest.mark.parametrize(
    "damage",
    [
        "tc class change dev tap0 classid 1:30 htb rate 3mbit",
        "tc filter del dev tap0 parent 1: prio 16",
        "tc qdisc del dev tap0 root",
    ],
)
def test_check_finds_damage_to_the_limits_of_subnets(host: Host, damage: str) -> None:
    node = host.node("c1")
    tap()
    made = request(node, **limits(MEGABIT, MEGABIT), unshapedSubnets=["192.0.2.0/24", "::/0", "::/0"])
    perform(made, "ADD")
    perform(made, "CHECK")
    command(*damage.split())
    with pytest.raises(CniError, match="tap0") as refused:
        perform(made, "CHECK")
    assert refused.value.code == 101
    perform(made, "DEL")
    assert (disciplines(), devices()) == ([], [])


def test_what_shares_an_interface_of_the_host_is_refused(host: Host) -> None:
    """The other end of a macvlan or ipvlan is the interface that everybody uses."""
    node = host.node("c1")
    tap()
    command("ip", "link", "add", "link", "tap0", "name", "mv0", "type", "macvlan")
    command("ip", "link", "set", "mv0", "netns", node.netns, "name", "eth0")
    with pytest.raises(CniError, match="eth0 is a macvlan") as refused:
        perform(request(node, **limits(MEGABIT, MEGABIT)), "ADD")
    assert refused.value.code == INVALID_CONFIG
    assert (disciplines(), devices()) == ([], [])


def test_gone_namespaces_and_gc(host: Host, nothing: dict[str, list[str]]) -> None:
    node = host.node("c1")
    tap()
    made = request(node, **limits(MEGABIT, MEGABIT))
    perform(made, "ADD")
    valid = [{"containerID": "c1", "ifname": "eth0"}]
    perform(request(node, **{"cni.dev/valid-attachments": valid}), "GC")
    assert len(devices()) == 1
    node.vanish()
    perform(request(node), "GC")
    assert (disciplines(), devices()) == ([], [])
    made.netns = None
    perform(made, "DEL")
    made.netns = node.netns
    with pytest.raises(CniError) as refused:
        perform(made, "ADD")
    assert refused.value.code == UNKNOWN_CONTAINER
    assert host.left() == {**nothing, "links": ["tap0"]}


def test_a_kernel_without_the_module_is_told_of(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    node = host.node("c1")
    tap()
    monkeypatch.setattr("linux.netlink.traffic.add_ingress", lambda index: traffic.add_fq_codel(index, at=1))
    made = request(node, **limits(MEGABIT, MEGABIT))
    with pytest.raises(CniError, match="the kernel cannot limit rates") as refused:
        perform(made, "ADD")
    assert refused.value.code == PLUGIN_NOT_AVAILABLE
    assert (disciplines(), devices()) == ([], [])
