"""dhcp beside a real server: leases asked for, kept, given back; what is left when something fails."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, nullcontext, suppress
from typing import TYPE_CHECKING, Any

import pytest

from cni.errors import PLUGIN_NOT_AVAILABLE, TRY_AGAIN_LATER, CniError
from cni.ipam.dhcp import frames, leases, message, protocol
from cni.ipam.dhcp import plugin as dhcp
from fixtures import striking
from fixtures.dhcp import PLUGIN, Daemon, Dnsmasq, Server
from linux import namespaces
from linux.netlink.socket import Socket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    # The fixtures' classes live in conftest.py, which cannot be imported by name.
    Host = Node = Any


@pytest.fixture
def lan(host: Host) -> Iterator[Host]:
    """A bridge lan0 with 10.77.0.1/24, on which servers of the host's own can be heard."""
    run("ip", "link", "add", "lan0", "address", "02:00:00:00:00:30", "type", "bridge")
    run("ip", "address", "add", "10.77.0.1/24", "dev", "lan0")
    run("ip", "link", "set", "lan0", "up")
    yield host
    assert not leased()
    shutil.rmtree(leases.DIRECTORY, ignore_errors=True)
    shutil.rmtree(os.path.dirname(protocol.SOCKET), ignore_errors=True)


def run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def bridge(**ipam: Any) -> dict[str, Any]:
    return {"type": "bridge", "bridge": "lan0", "ipam": {"type": "dhcp", **ipam}}


def leased() -> list[str]:
    try:
        return [name for name in os.listdir(leases.DIRECTORY) if not name.startswith(".")]
    except FileNotFoundError:
        return []


def lease_of(node: Node, network: str = "net1") -> leases.Lease:
    with leases.Locked() as held:
        found = held.load(leases.file_name(network, node.name, "eth0"))
    assert found is not None
    return found


def addresses(node: Node) -> list[str]:
    shown = json.loads(node("ip", "-j", "-4", "address", "show", "eth0"))
    return [f"{each['local']}/{each['prefixlen']}" for one in shown for each in one.get("addr_info", ())]


def routes(node: Node) -> list[tuple[str, str]]:
    return [(each["dst"], each.get("gateway", "")) for each in json.loads(node("ip", "-j", "-4", "route"))]


def test_a_lease_and_its_end_at_a_real_server(lan: Host, tmp_path: Path) -> None:
    options = (
        "--dhcp-range=10.77.0.50,10.77.0.99,1h",
        "--dhcp-option=3,10.77.0.1",
        "--dhcp-option=6,10.77.0.1,10.77.0.2",
        "--dhcp-option=15,lan.example",
        "--dhcp-option=119,a.example,b.a.example",
        "--dhcp-option=26,1400",
    )
    with Dnsmasq(tmp_path, "lan0", *options) as server, Daemon() as daemon:
        one, two = lan.node("c1"), lan.node("c2")
        network = lan.network(bridge())
        result = lan.add(network, one)
        lan.add(network, two)
        given = [str(each.address) for each in result.ips]
        assert given == addresses(one)
        assert server.comes_to(*(each.partition("/")[0] for each in given + addresses(two)))
        assert routes(one)[0] == ("default", "10.77.0.1")
        assert result.dns.to_json() == {
            "nameservers": ["10.77.0.1", "10.77.0.2"],
            "domain": "lan.example",
            "search": ["a.example", "b.a.example"],
        }
        assert json.loads(one("ip", "-j", "link", "show", "eth0"))[0]["mtu"] == 1400
        one("busybox", "ping", "-c", "1", addresses(two)[0].partition("/")[0])
        lan.check(network, one)
        for node in (one, one, two):
            lan.delete(network, node)
        server.hear("DHCPRELEASE", "lan0")
        server.hear("DHCPRELEASE", "lan0")
        assert server.comes_to()
        assert daemon.end() == 0
    assert not os.path.exists(protocol.SOCKET)
    assert [each["ifname"] for each in json.loads(run("ip", "-j", "link"))] == ["lo", "lan0"]


def test_a_daemon_that_was_killed_loses_nothing_and_a_delete_does_not_need_one(
    lan: Host, tmp_path: Path
) -> None:
    one, two = lan.node("c1"), lan.node("c2")
    network = lan.network(bridge())
    with Dnsmasq(tmp_path, "lan0") as server:
        with Daemon() as daemon:
            lan.add(network, one)
            daemon.end(signal.SIGKILL)
        with pytest.raises(CniError, match="systemctl start rkt-dhcp") as away:
            lan.add(network, two)
        assert away.value.code == TRY_AGAIN_LATER
        lan.check(network, one)
        with Daemon() as daemon:
            assert "keeping 1 leases" in daemon.lines[-1]
            lan.add(network, two)
            daemon.end(signal.SIGKILL)
        lan.delete(network, one)
        lan.delete(network, two)
        server.hear("DHCPRELEASE")
        server.hear("DHCPRELEASE")
        assert server.comes_to()


def test_renewal_by_unicast_then_to_everybody_then_the_address_goes_and_comes_back(lan: Host) -> None:
    node = lan.node("c1")
    network = lan.network(bridge())
    routers = {"3": "0a4d0001"}
    with Server("lan0", lease=4, t1=1, t2=2, options=routers) as server, Daemon() as daemon:
        lan.add(network, node)
        first = lease_of(node).expires
        renewal = server.message("request", ciaddr="10.77.0.50")
        assert (renewal["from"], renewal["to"]) == ("10.77.0.50", "10.77.0.1")
        assert not {"50", "54"} & set(renewal["options"])  # RFC 2131 table 5
        assert renewal["options"]["61"] == b"\0c1/net1/eth0".hex()
        # The acknowledgement has been written down by the time of the renewal after it.
        server.message("request", ciaddr="10.77.0.50")
        assert first is not None
        assert (lease_of(node).expires or 0) > first
        daemon.end(signal.SIGKILL)
        server.tell(answer=[])
        with Daemon("-resendmax", "300ms") as daemon:
            server.message("request", to="255.255.255.255")
            daemon.hear("lost 10.77.0.50", "expired")
            asked = server.message("request", requested="10.77.0.50")
            assert asked["ciaddr"] == "0.0.0.0"
            assert (addresses(node), routes(node)) == ([], [])
            with pytest.raises(CniError, match="expired"):
                lan.check(network, node)
            server.tell(answer=["request"], lease=600, t1=300, t2=400)
            daemon.hear("has 10.77.0.50 again")
            assert addresses(node) == ["10.77.0.50/24"]
            assert ("default", "10.77.0.1") in routes(node)
            lan.check(network, node)
            lan.delete(network, node)
            released = server.message("release")
            assert (released["from"], released["ciaddr"]) == ("10.77.0.50", "10.77.0.50")


def test_a_refused_renewal_takes_the_address_away(lan: Host) -> None:
    node = lan.node("c1")
    network = lan.network(bridge())
    with Server("lan0", lease=60, t1=1, t2=40) as server, Daemon() as daemon:
        lan.add(network, node)
        server.tell(nak=["request"], options={"56": b"no \x1b[31mway".hex()})
        daemon.hear("lost 10.77.0.50: the server 10.77.0.1 refused: no ?[31mway")
        assert addresses(node) == []
        lan.delete(network, node)


def test_an_add_survives_lost_messages_and_a_refusal(lan: Host) -> None:
    node = lan.node("c1")
    network = lan.network(bridge())
    with Server("lan0", lease=600, drop=2, nak=["request"]) as server, Daemon() as daemon:
        adding = os.fork()
        if adding == 0:
            code = 1
            try:
                lan.add(network, node)
                code = 0
            finally:
                os._exit(code)
        for _ in range(3):
            server.message("discover")
        server.message("request")
        server.tell(nak=[])
        assert os.waitstatus_to_exitcode(os.waitpid(adding, 0)[1]) == 0
        assert addresses(node) == ["10.77.0.50/24"]
        lan.delete(network, node)
        assert daemon.end() == 0


def station(lan: Host, name: str, address: str = "") -> Node:
    """Another machine on the LAN."""
    node = lan.node(name)
    run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", node.netns)
    run("ip", "link", "set", name, "up", "master", "lan0")
    if address:
        node("ip", "address", "add", address, "dev", "eth0")
    node("ip", "link", "set", "eth0", "up")
    return node


def test_another_server_may_take_over_but_not_before_everybody_is_asked(lan: Host) -> None:
    node = lan.node("c1")
    network = lan.network(bridge())
    run("ip", "address", "add", "10.77.0.9/24", "dev", "lan0")
    with Server("lan0", lease=8, t1=1, t2=2) as server, Daemon() as daemon:
        lan.add(network, node)
        server.tell(id="10.77.0.9", lease=600, t1=300, t2=400)
        # It answers in the other's name, though that one was asked.
        server.message("request", to="10.77.0.1")
        asked = server.message("request", to="255.255.255.255")
        assert (asked["from"], asked["ciaddr"]) == ("10.77.0.50", "10.77.0.50")
        daemon.hear("10.77.0.9 has taken over")
        lan.delete(network, node)
        released = server.message("release")
        assert released["options"]["54"] == "0a4d0009"
        daemon.end()


def test_an_address_in_use_is_declined_when_that_is_asked_for(lan: Host) -> None:
    node, _ = lan.node("c1"), station(lan, "squatter", "10.77.0.50/24")
    with Server("lan0", lease=600) as server, Daemon("-resendtimeout", "20s"):
        trusting = lan.network(bridge())
        lan.add(trusting, node)
        lan.delete(trusting, node)
        wary = lan.network(bridge(arpProbe=True))
        adding = os.fork()
        if adding == 0:
            with pytest.raises(CniError, match=r"10\.77\.0\.50, which the DHCP server gives, is in use"):
                lan.add(wary, node)
            os._exit(3)
        declined = server.message("decline")
        assert (declined["requested"], declined["ciaddr"]) == ("10.77.0.50", "0.0.0.0")
        assert os.waitstatus_to_exitcode(os.waitpid(adding, 0)[1]) == 3
        server.tell(give="10.77.0.51")
        lan.add(wary, node)
        assert addresses(node) == ["10.77.0.51/24"]
        lan.delete(wary, node)


def test_a_container_that_is_gone_is_spoken_for_by_its_bridge(lan: Host) -> None:
    node, router = lan.node("c1"), station(lan, "router", "10.77.0.2/24")
    network = lan.network(bridge())
    with ExitStack() as stack:
        with namespaces.inside(router.netns):
            server = stack.enter_context(Server("eth0", id="10.77.0.2", lease=600))
        stack.enter_context(Daemon())
        lan.add(network, node)
        node.vanish()
        lan.delete(network, node)
        released = server.message("release")
        assert (released["from"], released["to"]) == ("10.77.0.50", "10.77.0.2")


def test_only_answers_to_clients_pass_and_only_undamaged_ones(lan: Host) -> None:
    node = station(lan, "c1")
    mac = bytes.fromhex(json.loads(node("ip", "-j", "link", "show", "eth0"))[0]["address"].replace(":", ""))
    with namespaces.inside(node.netns):
        index = socket.if_nametoindex("eth0")
    sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with frames.Channel(node.netns, index, mac, mac) as channel, sender:
        sender.bind(("lan0", 0))
        told, other = (bytes(28) + each + b"hello" for each in (mac, mac[:5] + bytes((mac[5] ^ 1,))))

        def answer(payload: bytes) -> bytes:
            sent = frames.encode(payload, mac, mac, b"\n\0\0\1", b"\n\0\0\2")
            return sent[:34] + sent[36:38] + sent[34:36] + sent[38:]

        sent, good = frames.encode(told, mac, mac, b"\n\0\0\1", b"\n\0\0\2"), answer(told)
        bad = (sent, answer(other), answer(bytes(28) + bytes(6)), b"\xff" * 60, good[:46], good[:-1] + b"!")
        fragment = bytes(good[:20] + b"\x20\0" + good[22:])
        for frame in (*bad, fragment, good, good + b"more"):
            sender.send(frame)
        end = time.monotonic() + 5
        heard = [channel.receive(end), channel.receive(end)]
        assert [each and each.payload for each in heard] == [told, told]
        assert channel.take() is None


@pytest.mark.parametrize(
    "plugin", [{"type": "macvlan", "master": "up0"}, {"type": "host-device", "device": "up0"}]
)
def test_other_plugins_that_make_the_interface_first(
    lan: Host, tmp_path: Path, plugin: dict[str, Any]
) -> None:
    router, node = lan.node("router"), lan.node("c1")
    run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", router.netns)
    run("ip", "link", "set", "up0", "up")
    router("ip", "address", "add", "10.77.0.1/24", "dev", "eth0")
    router("ip", "link", "set", "eth0", "up")
    network = lan.network({**plugin, "ipam": {"type": "dhcp"}})
    with ExitStack() as stack:
        with namespaces.inside(router.netns):
            server = stack.enter_context(Dnsmasq(tmp_path, "eth0"))
        stack.enter_context(Daemon())
        for _ in range(2):
            lan.add(network, node)
            assert server.comes_to(*(each.partition("/")[0] for each in addresses(node)))
            lan.check(network, node)
            lan.delete(network, node)
            assert server.comes_to()
            lan.delete(network, node)
    names = [each["ifname"] for each in json.loads(run("ip", "-j", "link"))]
    assert sorted(names) == ["lan0", "lo", "up0"]


def test_ptp_has_no_lan_to_ask(lan: Host, nothing: dict[str, list[str]]) -> None:
    node = lan.node("c1")
    with Daemon(), pytest.raises(CniError, match="no interface eth0") as refused:
        lan.add(lan.network({"type": "ptp", "ipam": {"type": "dhcp"}}), node)
    assert "ptp does not" in str(refused.value)
    assert lan.left() == {**nothing, "links": ["lan0"]}


def test_a_lease_of_a_century_does_not_end_the_daemon(lan: Host) -> None:
    node, other = lan.node("c1"), lan.node("c2")
    network = lan.network(bridge())
    with Server("lan0", lease=0xFFFFFFFE) as server, Daemon():
        lan.add(network, node)
        server.tell(lease=0xFFFFFFFF, give="10.77.0.51")
        lan.add(network, other)
        assert lease_of(other).expires is None
        for each in (node, other):
            lan.runtime.status(network)
            lan.check(network, each)
            lan.delete(network, each)


def test_a_daemon_that_cannot_see_the_container_is_no_help(lan: Host, tmp_path: Path) -> None:
    node = lan.node("c1")
    network = lan.network(bridge())
    root = tmp_path / "root"
    (root / "var/lib/cni").mkdir(parents=True)
    os.makedirs(leases.DIRECTORY, exist_ok=True)
    (root / "var/lib/cni/dhcp").symlink_to(leases.DIRECTORY)
    with Server("lan0", lease=60) as server, Daemon("-hostprefix", str(root)):
        with pytest.raises(CniError, match=f"cannot see {root}/proc") as blind:
            lan.add(network, node)
        assert blind.value.code == PLUGIN_NOT_AVAILABLE
        server.message("release")


def test_a_flood_of_answers_holds_nobody_up(lan: Host) -> None:
    node = lan.node("c1")
    network = lan.network(bridge())
    answer = message.Message(1, bytes(6), {53: b"\2", 54: b"\n\0\0\1"}, reply=True).encode()
    sent = frames.encode(answer, b"\2" * 6, frames.EVERYBODY, b"\n\0\0\1", frames.BROADCAST)
    flood = sent[:34] + sent[36:38] + sent[34:36] + sent[38:]
    child = os.fork()
    if child == 0:
        try:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
                sender.bind(("lan0", 0))
                while True:
                    sender.send(flood)
        finally:
            os._exit(1)
    try:
        with Daemon("-resendtimeout", "500ms"), pytest.raises(CniError, match="no DHCP server answered"):
            lan.add(network, node)
        with Server("lan0", lease=4, t1=1, t2=3) as server, Daemon():
            lan.add(network, node)
            server.message("request", ciaddr="10.77.0.50")
            server.message("request", ciaddr="10.77.0.50")
            lan.runtime.status(network)
            lan.delete(network, node)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_of_two_servers_one_is_chosen_and_the_other_not_heard(lan: Host, tmp_path: Path) -> None:
    node = lan.node("c1")
    rival = station(lan, "rival", "10.77.0.2/24")
    network = lan.network(bridge())
    with ExitStack() as stack:
        # What it offers has no lease time: no use to anybody.
        stack.enter_context(Server("lan0", id="10.77.0.1"))
        with namespaces.inside(rival.netns):
            rivals = stack.enter_context(Server("eth0", id="10.77.0.2", give="10.77.0.60", lease=600))
        stack.enter_context(Daemon())
        lan.add(network, node)
        assert addresses(node) == ["10.77.0.60/24"]
        lan.delete(network, node)
        assert rivals.message("release")["ciaddr"] == "10.77.0.60"


def test_no_server_is_told_with_what_was_offered_and_leaves_nothing(lan: Host) -> None:
    node = lan.node("c1")
    network = lan.network(bridge())
    with Daemon("-timeout", "300ms", "-resendtimeout", "600ms"):
        with pytest.raises(CniError, match="no DHCP server answered") as silent:
            lan.add(network, node)
        assert silent.value.code == TRY_AGAIN_LATER
        with Server("lan0"), pytest.raises(CniError, match=r"offer .* 10\.77\.0\.1 is no use.*lease time"):
            lan.add(network, node)
        with Server("lan0", lease=60, answer=["discover"]), pytest.raises(CniError, match="acknowledge"):
            lan.add(network, node)
    assert [each["ifname"] for each in json.loads(run("ip", "-j", "link"))] == ["lo", "lan0"]


def test_a_namespace_that_is_gone_is_no_error_and_the_lease_is_forgotten(lan: Host) -> None:
    one, two = lan.node("c1"), lan.node("c2")
    network = lan.network(bridge())
    with Server("lan0", lease=600) as server, Daemon() as daemon:
        lan.add(network, one)
        one.vanish()
        lan.delete(network, one, netns="")
        server.tell(lease=8, t1=1, t2=6)
        lan.add(network, two)
        two.vanish()
        daemon.hear("c2", "its network namespace is gone")
        lan.delete(network, two)
        assert leased() == []


def test_many_at_once(lan: Host, tmp_path: Path) -> None:
    network = lan.network(bridge())
    nodes = [[lan.node(f"w{worker}-{number}") for number in range(3)] for worker in range(8)]
    with Dnsmasq(tmp_path, "lan0") as server, Daemon():
        for verb in ("add", "delete"):
            children = []
            for mine in nodes:
                child = os.fork()
                if child == 0:
                    code = 1
                    try:
                        for node in mine:
                            getattr(lan, verb)(network, node)
                        code = 0
                    finally:
                        os._exit(code)
                children.append(child)
            codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
            assert codes == [0] * len(nodes)
            if verb == "add":
                given = [one for mine in nodes for node in mine for one in addresses(node)]
                assert len(set(given)) == 24
                assert server.comes_to(*(each.partition("/")[0] for each in given))
        assert server.comes_to()


def test_gc_gives_back_the_stale_alone(lan: Host, tmp_path: Path) -> None:
    nodes = [lan.node(name) for name in ("c1", "c2", "c3")]
    network = lan.network(bridge())
    with Dnsmasq(tmp_path, "lan0") as server, Daemon():
        for node in nodes:
            lan.add(network, node)
        kept = addresses(nodes[1])[0].partition("/")[0]
        lan.runtime.collect(network, [("c2", "eth0")])
        for _ in range(2):
            server.hear("DHCPRELEASE")
        assert server.comes_to(kept)
        lan.check(network, nodes[1])
        lan.runtime.collect(network, [])
        server.hear("DHCPRELEASE")
        assert server.comes_to()


def test_what_is_said_and_asked_for(lan: Host) -> None:
    node = lan.node("c1")
    provide = [
        {"option": "host-name", "fromArg": "K8S_POD_NAME"},
        {"option": "60", "value": "rkt"},
        {"option": "dhcp-client-identifier", "value": "me"},
    ]
    ipam = {"provide": provide, "request": [{"option": "routers", "skipDefault": True}]}
    network = lan.network(bridge(**ipam, priority=50))
    with Server("lan0", lease=600, options={"3": "0a4d0001"}) as server, Daemon("--broadcast"):
        lan.add(network, node, args=(("IgnoreUnknown", "1"), ("K8S_POD_NAME", "web")))
        heard = server.message("discover")
        assert heard["broadcast"]
        assert heard["options"]["12"] == b"web".hex()
        assert heard["options"]["60"] == b"rkt".hex()
        assert heard["options"]["61"] == b"me".hex()
        assert heard["options"]["55"] == bytes((3, 51, 54, 58, 59)).hex()
        assert json.loads(node("ip", "-j", "-4", "route"))[0]["metric"] == 50
        lan.delete(network, node)


def test_status_and_strangers_at_the_socket(lan: Host, tmp_path: Path) -> None:
    network = lan.network(bridge())
    with pytest.raises(CniError) as away:
        lan.runtime.status(network)
    assert away.value.code == PLUGIN_NOT_AVAILABLE
    pidfile = tmp_path / "pid"
    with Daemon("-pidfile", str(pidfile)) as daemon:
        lan.runtime.status(network)
        assert int(pidfile.read_text()) == daemon.pid
        assert os.stat(protocol.SOCKET).st_mode & 0o777 == 0o600
        second = subprocess.run([PLUGIN, "daemon"], capture_output=True, text=True, check=False)
        assert (second.returncode, "another daemon keeps" in second.stderr) == (1, True)
        # The reference's plugin speaks net/rpc: it is told, and shows it.
        go = "/usr/lib/cni/dhcp"
        if os.path.exists(go):
            text = json.dumps({"cniVersion": "1.0.0", "name": "n", "type": "dhcp", "ipam": {"type": "dhcp"}})
            variables = {
                "CNI_COMMAND": "DEL", "CNI_CONTAINERID": "c", "CNI_NETNS": "/proc/1/ns/net",
                "CNI_IFNAME": "eth0", "CNI_PATH": "/usr/lib/cni",
            }  # fmt: skip
            told = subprocess.run(
                [go], input=text, env=variables, capture_output=True, text=True, check=False
            )
            assert "this is the dhcp daemon of rkt-platform" in told.stdout
        with pytest.raises(protocol.OtherDaemon, match="no method 'x'"):
            protocol.call(protocol.SOCKET, "x")
        with pytest.raises(protocol.OtherDaemon, match="there is no lease"):
            protocol.call(protocol.SOCKET, protocol.KEEP, "../../etc/passwd")
        lan.runtime.status(network)
        assert daemon.end() == 0
    assert not pidfile.exists()


def test_an_interface_that_is_not_there(lan: Host) -> None:
    from cni.request import Request

    node = lan.node("c1")
    config: dict[str, object] = {"cniVersion": "1.0.0", "name": "n", "ipam": {"type": "dhcp"}}
    with Daemon(), pytest.raises(CniError, match="no interface eth0"):
        dhcp.add(Request("ADD", config, container_id="c1", netns=node.netns, ifname="eth0"))


def test_an_add_that_is_killed_anywhere_is_taken_back_by_a_delete(
    lan: Host, tmp_path: Path, checkout: Path, nothing: dict[str, list[str]]
) -> None:
    node = lan.node("c1")
    configured = tmp_path / "net.d"
    configured.mkdir()
    text = {"cniVersion": "1.1.0", "name": "net1", "plugins": [bridge()]}
    (configured / "10-lan.conflist").write_text(json.dumps(text))
    words = ["env", f"NETCONFPATH={configured}", f"CNI_PATH={tmp_path}", str(checkout / "bin/cnitool")]
    words += ["--cache-dir", str(tmp_path / "cache")]
    before = {**nothing, "links": ["lan0"]}
    try:
        with Dnsmasq(tmp_path, "lan0") as server, Daemon():
            count = striking.traced([*words, "add", "net1", node.netns])["count"]
            assert isinstance(count, int)
            subprocess.run([*words, "del", "net1", node.netns], check=True)
            assert server.comes_to()
            struck = 0
            for at in striking.positions(count, 7):
                report = striking.traced([*words, "add", "net1", node.netns], "--at", str(at))
                struck += report["struck"] is not None
                subprocess.run([*words, "del", "net1", node.netns], check=True)
                subprocess.run([*words, "gc", "net1", node.netns], check=True)
                assert server.comes_to(), (at, report)
                assert (leased(), lan.left()) == ([], before), (at, report)
            assert struck > 5
    finally:
        shutil.rmtree("/run/rkt-platform", ignore_errors=True)


def test_a_delete_that_is_killed_is_ended_by_the_next(lan: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    node = lan.node("c1")
    network = lan.network(bridge())
    with Server("lan0", lease=8, t1=1, t2=6) as server, Daemon():
        lan.add(network, node)
        deleting = os.fork()
        if deleting == 0:
            monkeypatch.setattr(dhcp, "_release", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            lan.delete(network, node)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(deleting, 0)[1]) == -signal.SIGKILL
        assert lease_of(node).state == leases.RELEASING
        # A daemon that starts now does not take it up again.
        with pytest.raises(protocol.OtherDaemon, match="to keep"):
            protocol.call(protocol.SOCKET, protocol.KEEP, lease_of(node).name)
        lan.delete(network, node)
        assert server.message("release")["ciaddr"] == "10.77.0.50"


@pytest.mark.parametrize("verb", ["add", "delete"])
def test_after_a_fault_at_any_message_to_the_kernel_a_delete_leaves_nothing(
    lan: Host, nothing: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    node = lan.node("c1")
    network = lan.network(bridge())
    send, sent, failing_at = Socket.send, [0], 0

    def counted(self: Socket, data: bytes) -> None:
        sent[0] += 1
        if sent[0] == failing_at:
            raise OSError(errno.ENOBUFS, "told to fail")
        send(self, data)

    def strike(at: int) -> None:
        nonlocal failing_at
        if verb == "delete":
            lan.add(network, node)
        sent[0], failing_at = 0, at
        with suppress(CniError) if at else nullcontext():
            getattr(lan, verb)(network, node)
        failing_at = 0

    monkeypatch.setattr(Socket, "send", counted)
    before = {**nothing, "links": ["lan0"]}
    with Server("lan0", lease=600), Daemon():
        strike(0)
        count = sent[0]
        lan.delete(network, node)
        assert count >= 3
        for at in range(1, count + 1):
            strike(at)
            lan.delete(network, node)
            assert (leased(), lan.left()) == ([], before), at
