"""portmap and firewall: any value in any place is a clear error or none, and nothing of it stays."""

from __future__ import annotations

import copy
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from cni import plugin, state
from cni.errors import INTERNAL, CniError
from cni.request import Request

if TYPE_CHECKING:
    from collections.abc import Iterator

    # The fixtures' classes live in conftest.py, which cannot be imported by name.
    Host = Any

STRANGE: list[Any] = [
    *(
        None,
        True,
        -1,
        0,
        1,
        70000,
        1 << 70,
        1.5,
        8080.0,
        "",
        "/",
        "..",
        "a b",
        "\0",
        "\n",
        "é" * 20,
        "\ud800",
    ),
    *("0.0.0.0", "::", "::ffff:10.0.0.1", "10.0.0.1/8", "-j", "!", ";", "flush ruleset", "x" * 5000, "TCP"),
    *([], {}, [[]], [{}], [5], ["\0"], ["-d", "\n*nat"], ["ip", "saddr", "1.2.3.4;"], {"": ""}),
]
MAPPING = {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "10.22.0.1"}
OWN: dict[str, dict[str, Any]] = {
    "portmap": {
        "backend": "nftables",
        "snat": True,
        "masqAll": False,
        "markMasqBit": 5,
        "externalSetMarkChain": "",
        "conditionsV4": ["ip", "saddr", "10.0.0.0/8"],
        "conditionsV6": [],
        "runtimeConfig": {"portMappings": [MAPPING]},
    },
    "firewall": {
        "backend": "nftables",
        "ingressPolicy": "isolated",
        "iptablesAdminChainName": "MINE",
        "firewalldZone": "trusted",
    },
}


def mutations(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """(path, strange value) for each place in `value`."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inner:
        for strange in STRANGE:
            yield (*path, key), strange
        yield from mutations(below, (*path, key))


@pytest.mark.parametrize("kind", OWN)
def test_any_value_in_any_place(host: Host, kind: str) -> None:
    node = host.node("c1")
    ipam = {"type": "host-local", "subnet": "10.22.0.0/24"}
    network = host.network({"type": "bridge", "bridge": "br0", "isGateway": True, "ipam": ipam})
    result = host.add(network, node).to_json("1.1.0")
    fixed = {"name": "net1", "cniVersion": "1.1.0", "type": kind, "prevResult": result}
    before = subprocess.check_output(["nft", "list", "ruleset"])
    refused = 0
    codes: dict[int, Any] = {}
    for path, strange in mutations(OWN[kind]):
        own = copy.deepcopy(OWN[kind])
        place: Any = own
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = strange
        given = {**fixed, **own}
        request = Request("ADD", given, container_id="c1", netns=node.netns, ifname="eth0")
        try:
            plugin.perform(kind, request)
        except CniError as failed:
            codes[failed.code] = path, strange, failed
            refused += 1
        plugin.perform(kind, request.with_config(given, command="DEL"))
        left = subprocess.check_output(["nft", "list", "ruleset"])
        assert left == before, (path, strange)
        assert [name for name, _ in state.every() if name == kind] == []
    assert INTERNAL not in codes, codes[INTERNAL]
    assert refused > 50
