"""Failures and kills in the middle: a failed ADD leaves nothing, a killed one nothing that GC leaves."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cni import plugin
from cni.errors import CniError
from cni.request import Request
from fixtures import striking
from fixtures.failing import Failing
from fixtures.linkstandin import StandIn, VlanBridges
from linux.netlink.socket import Socket

if TYPE_CHECKING:
    # The fixtures' classes live in conftest.py, which cannot be imported by name.
    Host = Node = Any

SAMPLES = 7
MAPPING = {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}
# Plugins that work on what a bridge has made, with as much to do as they can have.
CHAINED: dict[str, dict[str, Any]] = {
    "bandwidth": {"ingressRate": 10**6, "ingressBurst": 10**6, "egressRate": 10**6, "egressBurst": 10**6},
    "portmap": {"runtimeConfig": {"portMappings": [MAPPING, {**MAPPING, "protocol": "udp"}]}},
    "sbr": {},
    "tuning": {"mac": "02:00:00:00:00:77", "allmulti": True, "sysctl": {"net.core.somaxconn": "500"}},
    "vrf": {"vrfname": "blue"},
}
# Plugins that make the container's interface, with what they need besides an IPAM plugin. What is there of
# the host for them is in `make_devices`.
FIRST: dict[str, dict[str, Any]] = {
    "bridge": {"bridge": "br0", "isGateway": True, "macspoofchk": True, "arpspoofchk": True, "ipMasq": True},
    "flannel": {},
    "ptp": {"ipMasq": True},
    "host-device": {"device": "lan0"},
    "macvlan": {"master": "lan0"},
    "tap": {"owner": 64123, "mtu": 1400},
}
# The same for links that another kind plays: that kind, and its options.
PLAYED: dict[str, tuple[str, bytes]] = {
    "dummy": ("ifb", b""),
    "ipvlan": ("macvlan", b""),
    "vlan": ("macvlan", b""),
}
VLANS = "bridge with VLANs"
MAPPED = ("bridge", "flannel", "ptp")  # those with a host's side that ports can be mapped to
SUBNET = "FLANNEL_NETWORK=10.22.0.0/16\nFLANNEL_SUBNET=10.22.0.0/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n"


def config(kind: str, leases: Path) -> dict[str, Any]:
    if kind == "flannel":
        return flannel(leases)
    ranges = [[{"subnet": "10.22.0.0/24"}], [{"subnet": "fd00:22::/64"}]]
    ipam = {"type": "host-local", "ranges": ranges, "dataDir": str(leases), "routes": [{"dst": "0.0.0.0/0"}]}
    return {
        "cniVersion": "1.1.0",
        "name": "net1",
        "type": kind,
        "ipam": ipam,
        **FIRST.get(kind, {"master": "lan0"}),
    }


def make_devices() -> None:
    subprocess.run(["ip", "link", "add", "lan0", "type", "veth", "peer", "name", "lan1"], check=True)
    subprocess.run(["ip", "link", "set", "lan0", "up"], check=True)


def flannel(leases: Path) -> dict[str, Any]:
    path = leases.parent / "subnet.env"
    path.write_text(SUBNET)
    ipam = {"type": "host-local", "dataDir": str(leases)}
    own = {"subnetFile": str(path), "dataDir": str(leases / "flannel"), "delegate": {"bridge": "br0"}}
    return {"cniVersion": "1.1.0", "name": "net1", "type": "flannel", "ipam": ipam, **own}


def links(node: Node) -> set[str]:
    return {each["ifname"] for each in json.loads(node("ip", "-j", "link"))}


def everything(host: Host, node: Node) -> dict[str, Any]:
    """What a plugin in a chain may have changed, on both sides."""
    found: dict[str, Any] = host.left()
    del found["records"]  # the bridge's stays
    found["disciplines"] = subprocess.check_output(["tc", "qdisc"], text=True)
    addresses = "-o -6 address show scope global"
    everywhere = ("-4 route show table all", "-6 route show table all")
    for words in ("-o link", addresses, "-4 rule", "-6 rule", *everywhere):
        # Counted in seconds, or in the order of their making.
        found[words] = sorted(
            line.replace(" pref medium", "") for line in node("ip", *words.split()).splitlines()
        )
    found["somaxconn"] = node("cat", "/proc/sys/net/core/somaxconn")
    return found


def settled(host: Host, node: Node, expected: dict[str, Any]) -> dict[str, Any]:
    """`everything`, once it is as expected, or after ten seconds: IPv6 gets its routes a moment later."""
    end = time.monotonic() + 10
    while (found := everything(host, node)) != expected and time.monotonic() < end:
        pass
    return found


def _perform(name: str, request: Request) -> str | None:
    """What the plugin says when it fails; None when it does not, as where a failure does no harm."""
    try:
        plugin.perform(name, request)
    except CniError as failed:
        return str(failed)
    return None


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", [*FIRST, *PLAYED, VLANS])
def test_an_add_that_fails_at_any_message_leaves_nothing(
    host: Host, monkeypatch: pytest.MonkeyPatch, kind: str, after: bool
) -> None:
    node = host.node("c1")
    make_devices()
    if kind in PLAYED:
        StandIn(monkeypatch, kind, *PLAYED[kind])
    given = config(kind, host.leases)
    if kind == VLANS:
        kind = "bridge"
        VlanBridges(monkeypatch)
        given = {**config(kind, host.leases), "vlan": 100, "vlanTrunk": [{"id": 5}]}
    before = host.left()
    request = Request("ADD", given, container_id="c1", netns=node.netns, ifname="eth0")
    for at in range(1, 200):
        failing = Failing(at, after=after)
        with monkeypatch.context() as patched:
            patched.setattr(Socket, "send", lambda socket, data, f=failing: f.send(socket, data))
            refusal = _perform(kind, request)
        if failing.count < at:
            break
        assert refusal is None or "on purpose" in refusal
        if refusal is None:
            plugin.perform(kind, request.with_config(given, command="GC"))
        assert host.left() == before, at
        assert links(node) == {"lo"}, at
    else:
        pytest.fail("it never succeeded")
    assert at > 4
    plugin.perform(kind, request.with_config(request.config, command="GC"))
    assert host.left() == before


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", [*FIRST, *PLAYED])
def test_a_del_that_fails_at_any_message_is_finished_by_the_next(
    host: Host, monkeypatch: pytest.MonkeyPatch, kind: str, after: bool
) -> None:
    node = host.node("c1")
    make_devices()
    if kind in PLAYED:
        StandIn(monkeypatch, kind, *PLAYED[kind])
    given = config(kind, host.leases)
    add = Request("ADD", given, container_id="c1", netns=node.netns, ifname="eth0")
    delete = add.with_config(given, command="DEL")
    plugin.perform(kind, add)
    plugin.perform(kind, delete)
    before = host.left()
    for at in range(1, 100):
        plugin.perform(kind, add)
        failing = Failing(at, after=after)
        with monkeypatch.context() as patched:
            patched.setattr(Socket, "send", lambda socket, data, f=failing: f.send(socket, data))
            refusal = _perform(kind, delete)
        assert refusal is None or "on purpose" in refusal
        plugin.perform(kind, delete)
        assert host.left() == before, at
        assert links(node) == {"lo"}, at
        if failing.count < at:
            break
    else:
        pytest.fail("it never succeeded")
    assert at > 2


@pytest.mark.usefixtures("vrf_kind")
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", CHAINED)
def test_a_plugin_in_a_chain_that_fails_at_any_message_leaves_nothing(
    host: Host, nothing: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch, kind: str, after: bool
) -> None:
    node = host.node("c1")
    base = Request("ADD", config("bridge", host.leases), container_id="c1", netns=node.netns, ifname="eth0")
    result = plugin.perform("bridge", base)
    assert result is not None
    own = {"cniVersion": "1.1.0", "name": "net1", "type": kind, "prevResult": result.to_json("1.1.0")}
    request = base.with_config({**own, **CHAINED[kind], "dataDir": str(host.leases / "tuning")})
    before = everything(host, node)
    for verb in ("ADD", "DEL"):
        for at in range(1, 200):
            if verb == "DEL":
                plugin.perform(kind, request)
            failing = Failing(at, after=after)
            with monkeypatch.context() as patched:
                patched.setattr(Socket, "send", lambda socket, data, f=failing: f.send(socket, data))
                refusal = _perform(kind, request.with_config(request.config, command=verb))
            assert refusal is None or "on purpose" in refusal
            if verb == "DEL":
                plugin.perform(kind, request.with_config(request.config, command="DEL"))
            elif refusal is None:
                plugin.perform(kind, request.with_config(request.config, command="GC"))
            assert settled(host, node, before) == before, (verb, at)
            if failing.count < at:
                break
        else:
            pytest.fail("it never succeeded")
        assert at > 2
    plugin.perform("bridge", base.with_config(base.config, command="GC"))
    assert host.left() == nothing


SCRIPT = """
import json, sys
sys.path.insert(0, {source!r})
from cni import config, state
from cni.cache import Attachment, Cache
from cni.runtime import Runtime
state.DIRECTORY = {records!r}
network = config.parse_list({network!r})
runtime = Runtime(({top!r},), cache=Cache({top!r} + "/cache", durable=False), isolated=False)
attachment = Attachment("c1", "eth0", netns={netns!r}, capability_args={{"portMappings": [{mapping!r}]}})
if sys.argv[1] == "gc":
    runtime.collect(network, ())
else:
    getattr(runtime, sys.argv[1])(network, attachment)
"""


class Killer:
    """Runs a verb in a process that is killed at the k-th system call."""

    def __init__(self, host: Host, top: Path, checkout: Path, kind: str) -> None:
        from cni import state

        # A path that other processes can open too.
        self.node = host.node("c1")
        plugins = [config(kind, host.leases)]
        if kind in MAPPED:
            plugins.append({"type": "portmap", "capabilities": {"portMappings": True}})
        if kind in ("bridge", "ptp"):
            more = ("tuning", "bandwidth", "sbr")
            plugins += [{"type": each, **CHAINED[each], "dataDir": str(top / "tuning")} for each in more]
        network = {"cniVersion": "1.1.0", "name": "net1", "plugins": plugins}
        self._script = SCRIPT.format(
            source=str(checkout / "src"),
            records=state.DIRECTORY,
            network=json.dumps(network).encode(),
            top=str(top),
            netns=self.node.netns,
            mapping=MAPPING,
        )

    def run(self, verb: str) -> None:
        done = subprocess.run(self._argv(verb), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def traced(self, verb: str, *options: str) -> Any:
        return striking.traced(self._argv(verb), *options)

    def _argv(self, verb: str) -> list[str]:
        return ["/usr/bin/python3", "-IS", "-c", self._script, verb]


@pytest.mark.parametrize("kind", FIRST)
def test_after_a_kill_in_the_middle_one_gc_leaves_nothing(
    host: Host, tmp_path: Path, checkout: Path, kind: str
) -> None:
    make_devices()
    before = host.left()
    killer = Killer(host, tmp_path, checkout, kind)
    for verb in ("add", "delete"):
        if verb == "delete":
            killer.run("add")
        count = killer.traced(verb)["count"]
        killer.run("gc")
        assert host.left() == before
        assert count > 20
        for number, at in enumerate(striking.positions(count, SAMPLES)):
            if verb == "delete":
                killer.run("add")
            report = killer.traced(verb, "--at", str(at))
            # What a runtime does that knows of nothing: half of the times it tries again first.
            if number % 2:
                killer.run("delete")
            killer.run("gc")
            assert host.left() == before, (verb, at, report)
            assert links(killer.node) == {"lo"}
