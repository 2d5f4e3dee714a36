"""What passes by itself is "try again later" (code 11): a runtime repeats it, and gives up at 999."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cni.attachment import interface, veth
from cni.errors import TRY_AGAIN_LATER, CniError
from cni.request import Request
from linux.netlink import address, link
from linux.netlink.batch import Batch

if TYPE_CHECKING:
    # The fixtures' classes live in conftest.py, which cannot be imported by name.
    Host = Any


@pytest.fixture
def request_for(host: Host) -> Request:
    node = host.node("c1")
    return Request("ADD", {"name": "net1"}, container_id="c1", netns=node.netns, ifname="eth0")


def test_a_port_that_goes_away_while_its_bridge_is_waited_for(request_for: Request) -> None:
    with veth.Namespaces(request_for) as namespaces, pytest.raises(CniError, match="did not come up") as late:
        interface.wait_until_forwarding(namespaces, "veth0", 0.0)
    assert late.value.code == TRY_AGAIN_LATER


def test_a_pair_that_is_deleted_while_it_is_made(
    request_for: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an eager manager of interfaces does it; the kernel has said that it made the pair."""
    with veth.Namespaces(request_for) as namespaces:
        pair = veth.plan(request_for, namespaces)
        monkeypatch.setattr("cni.attachment.sysctl.host_side", lambda host: veth.delete(host, pair.host_mac))
        monkeypatch.setattr(link, "created", lambda _answer: None)
        with pytest.raises(CniError, match="went away") as gone:
            veth.create(namespaces, pair)
    assert gone.value.code == TRY_AGAIN_LATER


def test_duplicate_detection_that_does_not_end(request_for: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interface, "_DAD_DEADLINE", 0.0)
    with veth.Namespaces(request_for) as namespaces:
        pair = veth.plan(request_for, namespaces)
        veth.create(namespaces, pair)
        batch = Batch(namespaces.container)
        # An address is tentative as long as its interface is down.
        batch.add(address.add(pair.index, "fd00:22::2/64"))
        batch.commit()
        with pytest.raises(CniError, match="duplicate address detection did not finish") as late:
            interface._wait_for_detection(namespaces, pair)
        veth.delete(pair.host, pair.host_mac)
    assert late.value.code == TRY_AGAIN_LATER
