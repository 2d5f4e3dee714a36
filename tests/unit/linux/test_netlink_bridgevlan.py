"""VLANs of bridge ports: the requests are those that pyroute2 builds; this kernel's bridges have none."""

from __future__ import annotations

from typing import Any

import pytest

from fixtures.linkoracle import judge
from linux.netlink import bridgevlan, link, wire


def encoded(request: wire.Request) -> bytes:
    request.flags &= ~wire.ECHO
    return wire.encode(request, 1, wire.ACK)


def test_requests_are_those_of_pyroute2() -> None:
    asked: list[tuple[wire.Request, dict[str, Any]]] = [
        (bridgevlan.add(7, 100), {"command": "add", "vlan_info": {"vid": 100, "flags": 0}}),
        (bridgevlan.add(7, 100, 100), {"command": "add", "vlan_info": {"vid": 100, "flags": 0}}),
        (bridgevlan.add(7, 4094, native=True), {"command": "add", "vlan_info": {"vid": 4094, "flags": 6}}),
        (bridgevlan.remove(7, 1), {"command": "del", "vlan_info": {"vid": 1, "flags": 0}}),
    ]
    answers = judge(*[(encoded(request), "vlan_filter", {**more, "index": 7}) for request, more in asked])
    for ours, theirs in answers:
        assert ours == theirs
    ((ours, _),) = judge((encoded(bridgevlan.add(7, 200, 210)), "vlan_filter", {}))
    assert ours["IFLA_AF_SPEC"]["IFLA_BRIDGE_VLAN_INFO"] == [
        {"flags": 8, "vid": 200},
        {"flags": 16, "vid": 210},
    ]


def test_a_bridge_that_looks_at_vlans() -> None:
    asked = {"command": "add", "ifname": "br0", "kind": "bridge", "br_vlan_filtering": 1}
    ((made, theirs), (changed, _)) = judge(
        (encoded(link.create_bridge("br0", vlan_filtering=True)), "link", asked),
        (encoded(link.filter_vlans("br0")), "link", {}),
    )
    assert made == theirs
    assert changed["IFLA_LINKINFO"] == made["IFLA_LINKINFO"]
    # No new bridge: NLM_F_CREATE and NLM_F_EXCL are missing.
    assert changed["header"]["flags"] == made["header"]["flags"] & ~0x600


@pytest.mark.parametrize(("first", "last"), [(0, None), (4095, None), (5, 4), (1, 4095)])
def test_numbers_that_are_no_vlans(first: int, last: int | None) -> None:
    with pytest.raises(ValueError, match="not between 1 and 4094"):
        bridgevlan.add(7, first, last)


def test_what_is_read() -> None:
    body = bytes([7, 0]) + bytes(2) + wire.host_u32(9) + bytes(8)
    body += wire.attribute(
        26, wire.attribute(2, b"\x06\x00\x64\x00") + wire.attribute(2, b"\x00\x00\x05\x00")
    )

    class Dumped:
        def dump(self, request: wire.Request) -> list[wire.Message]:
            assert request.body[0] == 7
            return [wire.Message(16, 0, 1, body)]

    socket: Any = Dumped()
    assert bridgevlan.of_port(socket, 9) == {100: bridgevlan.PVID | bridgevlan.UNTAGGED, 5: 0}
    assert bridgevlan.of_port(socket, 8) == {}
