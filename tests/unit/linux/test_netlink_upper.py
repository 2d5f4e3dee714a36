"""Links on top of others: the requests are those that pyroute2 builds; this kernel has not every kind."""

from __future__ import annotations

from typing import Any

import pytest

from fixtures.linkoracle import judge
from linux.netlink import link, upper, wire


def encoded(request: wire.Request) -> bytes:
    """`request` without NLM_F_ECHO, which pyroute2 does not ask for."""
    request.flags &= ~wire.ECHO
    return wire.encode(request, 1, wire.ACK)


def test_requests_are_those_of_pyroute2() -> None:
    asked: list[tuple[wire.Request, dict[str, Any]]] = []
    common: dict[str, Any] = {"command": "add", "ifname": "x0", "link": 7, "mtu": 1400, "net_ns_fd": 5}
    for mode in upper.MACVLAN_MODES:
        mac = "02:00:00:00:00:01"
        request = upper.create_macvlan("x0", 7, mode=mode, netns=5, mac=mac, mtu=1400)
        more = {"macvlan_mode": mode, "address": mac}
        asked.append((request, {**common, "kind": "macvlan", **more}))
    for mode, number in upper.IPVLAN_MODES.items():
        request = upper.create_ipvlan("x0", 7, mode=mode, netns=5, mtu=1400)
        asked.append((request, {**common, "kind": "ipvlan", "ipvlan_mode": number}))
    for vlan in (0, 5, 4094):
        request = upper.create_vlan("x0", 7, vlan, netns=5, mtu=1400)
        asked.append((request, {**common, "kind": "vlan", "vlan_id": vlan}))
    asked.append((
        link.create("x0", "dummy", netns=5),
        {"command": "add", "ifname": "x0", "kind": "dummy", "net_ns_fd": 5},
    ))
    for ours, theirs in judge(*[(encoded(request), "link", options) for request, options in asked]):
        assert ours == theirs


def test_no_answer_is_asked_for_from_another_namespace() -> None:
    """It would go to another socket there: this process may have one of the same number."""
    assert not upper.create_macvlan("x0", 7, netns=5).flags & wire.ECHO
    assert upper.create_macvlan("x0", 7).flags & wire.ECHO


def test_a_device_that_is_handed_over() -> None:
    request = link.hand_over(7, 5, "eth0", alias="enp3s0")
    ((found, _),) = judge((encoded(request), "link", {}))
    assert (found["index"], found["flags"], found["change"]) == (7, 0, 1)
    assert (found["IFLA_IFNAME"], found["IFLA_IFALIAS"], found["IFLA_NET_NS_FD"]) == ("eth0", "enp3s0", 5)


def test_what_the_kernel_would_refuse_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="none of the modes private, vepa"):
        upper.create_macvlan("x0", 7, mode="l2")
    with pytest.raises(ValueError, match="none of the modes l2, l3"):
        upper.create_ipvlan("x0", 7, mode="bridge")
    with pytest.raises(ValueError, match="VLAN 4095"):
        upper.create_vlan("x0", 7, 4095)
