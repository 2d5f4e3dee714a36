"""A node with both implementations: rules that one of them made, by iptables, the other one takes away."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cni import state
from cni.plugin import perform
from cni.request import Request
from fixtures.goplugins import GO, VERSION, go, ours
from fixtures.ownnetwork import own_namespace

if TYPE_CHECKING:
    from collections.abc import Iterator

PORTS = {
    "portMappings": [
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 8053, "containerPort": 53, "protocol": "udp"},
        {"hostPort": 8443, "containerPort": 443, "protocol": "tcp", "hostIP": "192.0.2.1"},
    ]
}
CHAINED: dict[str, dict[str, Any]] = {
    "portmap": {"type": "portmap", "backend": "iptables", "runtimeConfig": PORTS},
    "portmap-without-snat": {
        "type": "portmap",
        "backend": "iptables",
        "snat": False,
        "conditionsV4": ["!", "-d", "192.0.2.9"],
        "runtimeConfig": PORTS,
    },
    "firewall": {"type": "firewall", "backend": "iptables"},
    "firewall-same-bridge": {"type": "firewall", "backend": "iptables", "ingressPolicy": "same-bridge"},
}
# What either implementation leaves on purpose: shared chains, and the rules that lead there.
SHARED = ("CNI-HOSTPORT", "CNI-FORWARD", "CNI-ADMIN", "CNI-ISOLATION")

pytestmark = [
    pytest.mark.needs("nftables", "network-links"),
    pytest.mark.skipif(not (GO / "portmap").exists(), reason="needs Debian's containernetworking-plugins"),
    pytest.mark.skipif(shutil.which("iptables-restore") is None, reason="needs iptables"),
]


@pytest.fixture
def host(root: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A network namespace to be the host in, and a directory for what the plugins keep."""
    monkeypatch.setattr(state, "DIRECTORY", str(tmp_path / "records"))
    with own_namespace():
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield tmp_path


def bridge(directory: Path, **options: Any) -> dict[str, Any]:
    ranges = [[{"subnet": "10.22.0.0/24"}], [{"subnet": "fd00:22::/64"}]]
    ipam = {"type": "host-local", "ranges": ranges, "dataDir": str(directory / "leases")}
    return {
        "cniVersion": VERSION,
        "name": "net1",
        "type": "bridge",
        "bridge": "br0",
        "isGateway": True,
        "ipam": ipam,
        **options,
    }


def rules() -> list[str]:
    """The rules in iptables in the order of their chains, and the chains that are not the kernel's own."""
    found = []
    for program in ("iptables-save", "ip6tables-save"):
        text = subprocess.check_output([program], text=True)
        lines = [line for line in text.splitlines() if line.startswith(("-A", ":CNI"))]
        # Of ours alone, and of no consequence: the guard of route_localnet.
        found += [line for line in lines if "CNI-HOSTPORT-LOCAL" not in line]
    return found


def own() -> list[str]:
    return [line for line in rules() if not any(name in line for name in SHARED)]


def test_masquerade_and_its_chain(host: Path, netns: Path) -> None:
    given = bridge(host, ipMasq=True, ipMasqBackend="iptables")
    result = go("ADD", given, netns)
    theirs = rules()
    assert len(own()) == 8
    ours("DEL", {**given, "prevResult": result}, netns)
    assert own() == []
    # The namespace gone, and nothing but names known.
    result = go("ADD", given, netns)
    request = Request("DEL", given, container_id="c1", ifname="eth0")
    perform("bridge", request)
    assert own() == []
    subprocess.run(["nsenter", f"--net={netns}", "ip", "link", "delete", "eth0"], check=True)

    result = ours("ADD", given, netns)
    assert [line.replace("10.22.0.4", "10.22.0.2").replace("22::4", "22::2") for line in rules()] == theirs
    go("DEL", {**given, "prevResult": result}, netns)
    assert own() == []
    ours("GC", {**given, "cni.dev/valid-attachments": []}, netns)
    assert list(state.every()) == []


@pytest.mark.parametrize("name", CHAINED)
def test_a_plugin_in_a_chain(host: Path, netns: Path, name: str) -> None:
    base = bridge(host)
    result = ours("ADD", base, netns)
    given = {"cniVersion": VERSION, "name": "net1", **CHAINED[name], "prevResult": result}

    go("ADD", given, netns)
    theirs = rules()
    ours("CHECK", given, netns)
    for _ in range(2):
        ours("DEL", given, netns)
    assert own() == []
    after_ours = rules()

    go("ADD", given, netns)
    go("DEL", given, netns)
    assert rules() == after_ours

    ours("ADD", given, netns)
    assert rules() == theirs
    go("DEL", given, netns)
    assert rules() == after_ours
    # The Go plugins know nothing of our records; the next GC of ours finds that they speak of nothing.
    ours("GC", {**given, "cni.dev/valid-attachments": []}, netns)
    assert [plugin for plugin, _ in state.every() if plugin in ("portmap", "firewall")] == []
    assert rules() == after_ours
    ours("DEL", {**base, "prevResult": result}, netns)


def test_a_port_that_the_other_implementation_has_mapped(host: Path, netns: Path) -> None:
    from cni.errors import CniError

    result = ours("ADD", bridge(host), netns)
    given = {"cniVersion": VERSION, "name": "net1", **CHAINED["portmap"], "prevResult": result}
    go("ADD", given, netns)
    for backend in ("nftables", "iptables"):
        other = {**given, "name": "net2", "backend": backend}
        with pytest.raises(CniError, match="host port 8080 is already mapped: to net1/c1"):
            ours("ADD", other, netns)
    go("DEL", given, netns)
    ours("DEL", {**bridge(host), "prevResult": result}, netns)
