"""A node with both: the Go plugins' attachments can be taken back by ours, and ours by the Go plugins."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cni.cache import Attachment, Cache
from cni.config import parse_list
from cni.runtime import Runtime
from fixtures.goplugins import GO, VERSION, go, ours
from fixtures.ownnetwork import own_namespace
from linux import namespaces

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def host(root: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A network namespace to be the host in, and a directory for what the plugins keep."""
    from cni import state

    if not (GO / "bridge").exists():
        pytest.skip("needs the Go plugins (Debian: containernetworking-plugins)")
    monkeypatch.setattr(state, "DIRECTORY", str(tmp_path / "records"))
    with own_namespace():
        subprocess.run(["ip", "link", "add", "lan0", "type", "veth", "peer", "name", "lan1"], check=True)
        subprocess.run(["ip", "link", "set", "lan0", "up"], check=True)
        yield tmp_path


# What each plugin needs besides an IPAM plugin; of the host there is the link lan0.
KINDS: dict[str, dict[str, Any]] = {
    "bridge": {"bridge": "br0", "isGateway": True},
    "host-device": {"device": "lan0"},
    "macvlan": {"master": "lan0"},
    "ptp": {},
}


def config(kind: str, directory: Path) -> dict[str, Any]:
    ipam = {"type": "host-local", "subnet": "10.22.0.0/24", "dataDir": str(directory / "leases")}
    ipam["routes"] = [{"dst": "0.0.0.0/0"}]  # type: ignore[assignment]
    return {"cniVersion": VERSION, "name": "net1", "type": kind, "ipam": ipam, **KINDS[kind]}


def left(directory: Path, netns: Path) -> list[str]:
    def links() -> list[str]:
        found = json.loads(subprocess.check_output(["ip", "-j", "link"]))
        return [each["ifname"] for each in found if each["ifname"] not in ("lo", "br0")]

    found = links()
    for name in ("lan0", "lan1"):
        found.remove(name)
    with namespaces.inside(netns):
        found += links()
    found += [path.name for path in (directory / "leases").rglob("10.*")]
    records = directory / "records"
    found += [str(path) for path in records.rglob("*") if path.is_file()]
    found += subprocess.check_output(["nft", "list", "tables"], text=True).splitlines()
    return found


@pytest.mark.parametrize("with_result", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_go_adds_and_we_delete(host: Path, netns: Path, kind: str, *, with_result: bool) -> None:
    given = config(kind, host)
    result = go("ADD", given, netns)
    if with_result:
        ours("CHECK", {**given, "prevResult": result}, netns)
        given = {**given, "prevResult": result}
    for _ in range(2):
        ours("DEL", given, netns)
    assert left(host, netns) == []


@pytest.mark.parametrize("kind", KINDS)
def test_we_add_and_go_checks_and_deletes(host: Path, netns: Path, kind: str) -> None:
    given = config(kind, host)
    result = ours("ADD", given, netns)
    go("CHECK", {**given, "prevResult": result}, netns)
    go("DEL", {**given, "prevResult": result}, netns)
    # The Go plugins know nothing of our records; the next DEL or GC of ours finds that they speak of nothing.
    ours("GC", {**given, "cni.dev/valid-attachments": []}, netns)
    assert left(host, netns) == []


RULES = """\
table inet cni_plugins_masquerade {
	chain masq_checks {
		ip saddr 10.22.0.2 masquerade comment "8e48f37d5de60467-2399adc068288034, net: net1, if: eth0"
		ip saddr 10.22.0.3 masquerade comment "8e48f37d5de60467-0000000000000000, net: net1, if: eth0"
	}
}
table ip cni_hostport {
	chain hostports {
		tcp dport 8080 dnat to 10.22.0.2:80 comment "1234-abcd"
		tcp dport 8081 dnat to 10.22.0.3:80 comment "other"
	}
	chain prerouting {
		type nat hook prerouting priority dstnat
		fib daddr type local jump hostports
	}
}
"""


def test_rules_of_newer_go_plugins_are_found_by_their_comments(host: Path) -> None:
    """Debian's have no nftables backend: the rules are as cni v1.9.1 leaves them."""
    from cni.nft import foreign

    subprocess.run(["nft", "-f", "-"], input=RULES, text=True, check=True)
    foreign.remove_masquerade("net1", "1234-abcd", "eth0")
    foreign.remove_port_mappings("1234-abcd")
    listed = subprocess.check_output(["nft", "list", "ruleset"], text=True)
    assert "10.22.0.2" not in listed
    assert "8081" in listed
    assert "10.22.0.3 masquerade" in listed
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    foreign.remove_masquerade("net1", "1234-abcd", "eth0")
    foreign.remove_port_mappings("1234-abcd")


@pytest.mark.parametrize("kind", ["bridge", "ptp"])
def test_a_thorough_del_takes_the_rules_that_gos_leaves_with_a_namespace_gone(host: Path, kind: str) -> None:
    """As `rkt cni gc` does it, and rkt for its pods: after the Go plugin's DEL comes ours."""
    gone = host / "netns"
    gone.touch()
    subprocess.run(["unshare", f"--net={gone}", "true"], check=True)
    network = parse_list(
        json.dumps({
            "cniVersion": VERSION,
            "name": "net1",
            "plugins": [{**config(kind, host), "ipMasq": True}],
        }).encode()
    )
    runtime = Runtime((str(GO),), cache=Cache(str(host / "cache")), environment={"PATH": os.environ["PATH"]})
    attachment = Attachment("c1", "eth0", netns=str(gone))
    for thorough in (False, True):
        runtime.add(network, attachment)
        assert "10.22.0." in nat_rules()
        subprocess.run(["umount", gone], check=True)
        gone.unlink()
        runtime.delete(network, attachment, thorough=thorough)
        assert ("10.22.0." in nat_rules()) is not thorough
        runtime.delete(network, attachment, thorough=True)
        assert "10.22.0" not in nat_rules()
        gone.touch()
        subprocess.run(["unshare", f"--net={gone}", "true"], check=True)
    subprocess.run(["umount", gone], check=True)
    assert list((host / "leases").rglob("10.*")) == []


def nat_rules() -> str:
    return subprocess.check_output(["iptables", "-t", "nat", "-S"], text=True)
