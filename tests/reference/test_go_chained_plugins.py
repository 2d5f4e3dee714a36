"""Chained plugins on a node with both: each checks and takes back what the other has made."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fixtures.goplugins import GO, VERSION, go, ours
from fixtures.ownnetwork import own_namespace
from linux import namespaces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PLUGINS: dict[str, dict[str, Any]] = {
    "bandwidth": {
        "ingressRate": 5_000_000,
        "ingressBurst": 800_024,
        "egressRate": 3_333_336,
        "egressBurst": 700_008,
    },
    "sbr": {},
    "tuning": {"mac": "02:00:00:00:00:77", "mtu": 1400, "sysctl": {"net.core.somaxconn": "500"}},
}


@pytest.fixture
def host(root: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A network namespace to be the host in, and a directory for what the plugins keep."""
    from cni import state

    if not (GO / "bandwidth").exists():
        pytest.skip("needs the Go plugins (Debian: containernetworking-plugins)")
    monkeypatch.setattr(state, "DIRECTORY", str(tmp_path / "records"))
    with own_namespace():
        yield tmp_path


Caller = Any if not TYPE_CHECKING else Callable[[str, dict[str, Any], Path], dict[str, Any]]


def everything(directory: Path, netns: Path) -> list[str]:
    """What can be left on either side but for the bridge, its lease and the records of it."""
    found = []
    for command in ("tc qdisc", "ip -o link"):
        lines = subprocess.check_output(command.split(), text=True).splitlines()
        found += [line for line in lines if "bwp" in line or "tbf" in line or "ingress" in line]
    with namespaces.inside(netns):
        for family in ("-4", "-6"):
            lines = subprocess.check_output(["ip", family, "rule"], text=True).splitlines()
            found += [line for line in lines if "from all" not in line]
    found += [path.name for path in (directory / "tuning").glob("*")]
    found += [path.name for path in (directory / "records").rglob("*") if path.name.split(":")[0] in PLUGINS]
    return found


class Chain:
    """A bridge of Go's and one plugin on it, of either side."""

    def __init__(self, kind: str, directory: Path, netns: Path) -> None:
        self.netns = netns
        routes = [{"dst": "0.0.0.0/0"}]
        ipam: dict[str, Any] = {
            "type": "host-local",
            "subnet": "10.22.0.0/24",
            "dataDir": str(directory / "leases"),
            "routes": routes,
        }
        self.bridge: dict[str, Any] = {
            "cniVersion": VERSION,
            "name": "net1",
            "type": "bridge",
            "bridge": "br0",
            "isGateway": True,
            "ipam": ipam,
        }
        self.own = {"cniVersion": VERSION, "name": "net1", "type": kind, "dataDir": str(directory / "tuning")}
        self.own.update(PLUGINS[kind])
        self.first: dict[str, Any] = {}
        self.result: dict[str, Any] = {}

    def add(self, caller: Caller) -> None:
        self.first = go("ADD", self.bridge, self.netns)
        self.result = caller("ADD", {**self.own, "prevResult": self.first}, self.netns)

    def do(self, caller: Caller, verb: str, *, with_result: bool = True) -> None:
        more = {"prevResult": self.result} if with_result else {}
        caller(verb, {**self.own, **more}, self.netns)

    def finish(self) -> None:
        go("DEL", {**self.bridge, "prevResult": self.result}, self.netns)


@pytest.mark.parametrize("with_result", [True, False])
@pytest.mark.parametrize("kind", PLUGINS)
def test_go_adds_and_we_check_and_delete(host: Path, netns: Path, kind: str, *, with_result: bool) -> None:
    chain = Chain(kind, host, netns)
    chain.add(go)
    assert everything(host, netns)
    chain.do(ours, "CHECK")
    for _ in range(2):
        chain.do(ours, "DEL", with_result=with_result)
        left = everything(host, netns)
        if kind == "bandwidth":
            # Of the buckets the reference plugin has no record either: they go with the interface.
            left = [line for line in left if "bwp" in line]
        assert left == []
    chain.finish()
    assert everything(host, netns) == []


@pytest.mark.parametrize("kind", PLUGINS)
def test_we_add_and_go_checks_and_deletes(host: Path, netns: Path, kind: str) -> None:
    chain = Chain(kind, host, netns)
    chain.add(ours)
    chain.do(go, "CHECK")
    chain.do(go, "DEL")
    chain.finish()
    # Go knows nothing of our records; the next GC of ours finds that they speak of nothing.
    ours("GC", {**chain.own, "cniVersion": "1.1.0"}, chain.netns)
    assert everything(host, netns) == []


@pytest.mark.parametrize("kind", PLUGINS)
def test_both_do_the_same(host: Path, netns: Path, kind: str) -> None:
    """Buckets, rules, routes and attributes, one after the other on one bridge."""

    def seen(caller: Caller) -> tuple[list[str], dict[str, Any]]:
        chain = Chain(kind, host, netns)
        # The same address for both.
        chain.bridge["ipam"].update(rangeStart="10.22.0.9", rangeEnd="10.22.0.9")
        chain.add(caller)
        lines = subprocess.check_output(["tc", "qdisc"], text=True).splitlines()
        words = [" ".join(word for word in line.split() if not word.startswith("veth")) for line in lines]
        with namespaces.inside(netns):
            for command in ("ip -4 rule", "ip -4 route show table all", "ip -o link show eth0"):
                text = subprocess.check_output(command.split(), text=True)
                words += [line.split("link/ether ff")[0] for line in text.splitlines()]
        chain.do(caller, "DEL")
        chain.finish()
        found = [line for line in words if "noqueue" not in line and "pfifo" not in line]
        result = {**chain.result, "interfaces": [each["name"][:3] for each in chain.result["interfaces"]]}
        result.pop("dns", None)  # empty
        return sorted(_without_numbers(line) for line in found), result

    assert seen(ours) == seen(go)


def _without_numbers(line: str) -> str:
    """Of the line of a link, what does not differ from one link to the next."""
    words = line.split()
    if "link/ether" not in words:
        return line
    mac = words[words.index("link/ether") + 1]
    return f"{words[words.index('mtu') + 1]} {mac if mac == PLUGINS['tuning']['mac'] else ''}"
