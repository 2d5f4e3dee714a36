"""What a reload of the firewall took away is put back from the records, and nothing but that."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from cni import state
from cni.attachment.reload import reload
from cni.errors import CniError
from cni.nft import masquerade

if TYPE_CHECKING:
    # The fixtures' classes live in conftest.py, which cannot be imported by name.
    Host = Any

pytestmark = pytest.mark.needs("nftables", "network-links")

PORT = {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}


def run(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def ruleset() -> list[str]:
    """The tables, which nft lists in the order in which they were made."""
    return sorted(run("nft", "-s", "list", "ruleset").split("table "))


def _network(host: Host) -> Any:
    bridge = {
        "type": "bridge",
        "isGateway": True,
        "ipMasq": True,
        "macspoofchk": True,
        "arpspoofchk": True,
        "ipam": {"type": "host-local", "subnet": "10.44.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]},
    }
    return host.network(bridge, {"type": "portmap", "capabilities": {"portMappings": True}})


def test_a_flushed_ruleset_comes_back(host: Host) -> None:
    network, node = _network(host), host.node("c1")
    host.add(network, node, capability_args=PORT)
    node.serve(80, "from c1")
    before = ruleset()
    assert reload() == []
    run("nft", "flush", "ruleset")
    with pytest.raises(CniError):
        host.check(network, node, capability_args=PORT)

    assert reload() == [
        "net1 c1 eth0: bridge: masquerade, guards of the port",
        "net1 c1 eth0: portmap: port mappings",
    ]
    host.check(network, node, capability_args=PORT)
    assert ruleset() == before
    assert host.ask("127.0.0.1", 8080) == "from c1 10.44.0.1"
    assert reload() == []
    host.delete(network, node, capability_args=PORT)
    assert run("nft", "list", "tables") == ""
    run("ip", "link", "delete", "cni0")


def test_one_lost_element_is_told_and_a_failure_does_not_stop_the_others(host: Host) -> None:
    network = _network(host)
    nodes = [host.node("c1"), host.node("c2")]
    host.add(network, nodes[0], capability_args=PORT)
    host.add(network, nodes[1])
    run("nft", "delete", "element", "inet", "rkt_portmap", "ports4", "{ tcp . 8080 }")
    run(
        "nft",
        "add",
        "element",
        "inet",
        "rkt_portmap",
        "ports4",
        '{ tcp . 8080 comment "x" : 10.44.0.3 . 80 }',
    )
    run("nft", "flush", "map", "inet", "rkt_masquerade", "sources4")

    told = reload()

    (refused,) = [line for line in told if line.startswith("error: net1 c1 eth0: portmap: ")]
    assert refused.endswith("host port 8080 is already mapped: to x")
    assert sum("masquerade" in line for line in told) == 2
    run("nft", "delete", "element", "inet", "rkt_portmap", "ports4", "{ tcp . 8080 }")
    for node in nodes:
        host.delete(network, node, capability_args=PORT)
    assert run("nft", "list", "tables") == ""
    run("ip", "link", "delete", "cni0")


def test_what_was_taken_away_meanwhile_does_not_come_back(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, node = _network(host), host.node("c1")
    host.add(network, node)
    run("nft", "flush", "ruleset")
    add = masquerade.add

    def slowly(*arguments: Any) -> None:
        host.delete(network, node)  # the DEL of a runtime that asks for no lock
        add(*arguments)

    monkeypatch.setattr(masquerade, "add", slowly)
    reload()
    assert list(state.every()) == []
    assert "rkt_masquerade" not in run("nft", "list", "tables")
    run("nft", "flush", "ruleset")
    run("ip", "link", "delete", "cni0")
