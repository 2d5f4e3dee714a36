"""Many callers at once: every address and port is one's own, nothing fails, nothing is left."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    # The fixtures' classes live in conftest.py, which cannot be imported by name.
    Host = Any

# What can come behind a bridge and its port mappings.
_LIMITS = {"ingressRate": 10**7, "ingressBurst": 10**6, "egressRate": 10**7, "egressBurst": 10**6}
LONG: tuple[dict[str, Any], ...] = (
    {"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}, "allmulti": True},
    {"type": "bandwidth", **_LIMITS},
    {"type": "sbr"},
)


def _caller(host: Host, network: Any, number: int, count: int, out: int) -> None:
    nodes = [host.node(f"c{number}-{each}") for each in range(count)]
    mapped = [
        {"portMappings": [{"hostPort": 10000 + number * 1000 + each, "containerPort": 80, "protocol": "tcp"}]}
        for each in range(count)
    ]
    for node, ports in zip(nodes, mapped, strict=True):
        result = host.add(network, node, capability_args=ports)
        pair = next(each.name for each in result.interfaces if each.name.startswith("veth"))
        os.write(out, f"{result.ips[0].address} {pair}\n".encode())
        # Every other one goes at once, so that the first and the last of all come and go all the time.
        if nodes.index(node) % 2:
            host.check(network, node, capability_args=ports)
            host.delete(network, node, capability_args=ports)
    for node, ports in zip(nodes[::2], mapped[::2], strict=True):
        host.check(network, node, capability_args=ports)
    for node, ports in zip(nodes, mapped, strict=True):
        host.delete(network, node, capability_args=ports)


def _all_at_once(host: Host, nothing: dict[str, list[str]], kind: str, callers: int, count: int) -> None:
    ipam = {"type": "host-local", "subnet": "10.22.0.0/16"}
    options = {} if kind == "ptp" else {"bridge": "br0", "isGateway": True}
    network = host.network(
        {"type": "ptp" if kind == "ptp" else "bridge", "ipMasq": True, "ipam": ipam, **options},
        {"type": "portmap", "capabilities": {"portMappings": True}},
        *({**each, "dataDir": str(host.leases / "old")} for each in LONG if kind == "long"),
    )
    reading, writing = os.pipe()
    children = []
    for number in range(callers):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                _caller(host, network, number, count, writing)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    os.close(writing)
    with os.fdopen(reading, encoding="ascii") as stream:
        lines = stream.read().splitlines()
    statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert statuses == [0] * callers
    assert len(lines) == callers * count
    assert len({line.split()[1] for line in lines}) == callers * count
    assert {**host.left(), "links": []} == nothing
    assert set(host.left()["links"]) <= {"br0"}


@pytest.mark.parametrize("kind", ["bridge", "long", "ptp"])
def test_four_callers_of_six_attachments_each(host: Host, nothing: dict[str, list[str]], kind: str) -> None:
    _all_at_once(host, nothing, kind, 4, 6)


@pytest.mark.campaign
@pytest.mark.parametrize("kind", ["bridge", "long", "ptp"])
def test_eight_callers_of_a_hundred(host: Host, nothing: dict[str, list[str]], kind: str) -> None:
    _all_at_once(host, nothing, kind, 8, 100)


def test_addresses_held_at_one_time_are_unique(host: Host) -> None:
    """Eight callers, 25 attachments each, none taken back before all are there."""
    network = host.network({
        "type": "bridge",
        "bridge": "br0",
        "ipam": {"type": "host-local", "subnet": "10.22.0.0/16"},
    })
    reading, writing = os.pipe()
    gate, opened = os.pipe()
    children = []
    for number in range(8):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.close(opened)
                nodes = [host.node(f"c{number}-{each}") for each in range(25)]
                for node in nodes:
                    os.write(writing, f"{host.add(network, node).ips[0].address}\n".encode())
                os.close(writing)
                os.read(gate, 1)
                for node in nodes:
                    host.delete(network, node)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    os.close(writing)
    with os.fdopen(reading, encoding="ascii") as stream:
        addresses = stream.read().split()
    held = len(host.left()["leases"])
    os.close(opened)
    os.close(gate)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert statuses == [0] * 8
    assert len(addresses) == len(set(addresses)) == held == 200
    assert host.left() == {"links": ["br0"], "tables": [], "records": [], "leases": []}
