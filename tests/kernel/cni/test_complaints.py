"""What users of the reference plugins complained of, where no other test shows that it cannot happen here.

docs/explanation/complaints.md lists all of them, each with the test that shows it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from cni.errors import INVALID_CONFIG, CniError
from linux import process
from linux.netlink.socket import Socket

if TYPE_CHECKING:
    # The fixtures' classes live in conftest.py, which cannot be imported by name.
    Host = Any


def network(host: Host, *more: dict[str, Any], subnet: str = "10.22.0.0/24") -> Any:
    ipam = {"type": "host-local", "subnet": subnet}
    return host.network(
        {"type": "bridge", "bridge": "br0", "isGateway": True, "ipMasq": True, "ipam": ipam}, *more
    )


def test_an_empty_lease_of_a_power_cut_is_a_free_address(host: Host) -> None:
    """plugins 498 and 983: such a file could never be released."""
    directory = host.leases / "net1"
    directory.mkdir(parents=True)
    for number in range(2, 7):
        (directory / f"10.22.0.{number}").touch()
    one = network(host, subnet="10.22.0.0/29")
    node = host.node("c1")
    host.runtime.status(one)
    assert str(host.add(one, node).ips[0].address) == "10.22.0.2/29"
    host.delete(one, node)
    assert not (directory / "10.22.0.2").exists()


def test_an_add_costs_the_same_beside_many_port_mappings(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """plugins 510: several runs of iptables for each port, and all rules read by each of them."""
    one = network(host, {"type": "portmap", "capabilities": {"portMappings": True}})
    nodes = [host.node(f"c{number}") for number in range(3)]

    def ports(first: int, count: int) -> dict[str, Any]:
        many = range(first, first + count)
        return {"portMappings": [{"hostPort": each, "containerPort": 80, "protocol": "tcp"} for each in many]}

    def messages(node: Any, mapped: dict[str, Any]) -> int:
        sent: list[int] = []
        send = Socket.send
        with monkeypatch.context() as counting:
            counting.setattr(Socket, "send", lambda each, data: sent.append(1) or send(each, data))
            counting.setattr(process, "run", lambda *_, **__: pytest.fail("a program is run"))
            host.add(one, node, capability_args=mapped)
        return len(sent)

    messages(nodes[0], ports(8080, 1))
    alone = messages(nodes[1], ports(8081, 1))
    host.delete(one, nodes[1], capability_args=ports(8081, 1))
    host.add(one, nodes[2], capability_args=ports(20000, 400))
    assert messages(nodes[1], ports(8081, 1)) == alone
    for node in nodes:
        host.delete(one, node)


def test_first_adds_at_once_make_one_bridge_with_one_address(host: Host) -> None:
    """plugins 366 and containerd 3507: they raced for the bridge's address."""
    one = network(host)
    children = []
    for number in range(8):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                node = host.node(f"c{number}")
                host.add(one, node)
                host.check(one, node)
                host.delete(one, node)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 8
    host.runtime.collect(one, ())


def test_the_hosts_end_has_the_name_that_follows_from_the_attachment(host: Host) -> None:
    """podman 24523: names were random, so nothing could be prepared for them."""
    from cni.attachment import names
    from cni.request import Request

    one, node = network(host), host.node("c1")
    expected = names.host_interface(Request(config={"name": "net1"}, container_id="c1", ifname="eth0"))
    for _ in range(2):
        assert [each.name for each in host.add(one, node).interfaces] == ["br0", expected, "eth0"]
        host.delete(one, node)


@pytest.mark.parametrize("kind", ["bridge", "ptp"])
def test_the_hosts_end_has_the_name_that_the_configuration_has_a_form_for(host: Host, kind: str) -> None:
    one, two = host.node("0123456789-abcdef"), host.node("0123456789-other")
    ipam = {"type": "host-local", "subnet": "10.22.0.0/24"}

    def form(text: str) -> Any:
        return host.network({"type": kind, "bridge": "br0", "hostInterface": text, "ipam": ipam})

    for text, name in (
        ("pod-{container}", "pod-0123456789-"),
        ("{interface}{container}{network}", "eth00123456net1"),
    ):
        assert name in [each.name for each in host.add(form(text), one).interfaces]
        with pytest.raises(CniError, match=f"the host has an interface {name} already") as taken:
            host.add(form(text), two)
        assert taken.value.code == INVALID_CONFIG
        host.check(form(text), one)
        host.delete(form(text), one)
    names = {each.name for node in (one, two) for each in host.add(form("v{digits}"), node).interfaces}
    assert len({each for each in names if each.startswith("v") and len(each) == 9}) == 2
    for node in (one, two):
        host.delete(form("v{digits}"), node)
    for bad in ("a/{container}", "0123456789abcdef"):
        with pytest.raises(CniError, match="not a name for a network interface"):
            host.add(form(bad), one)
    assert [each for each in host.left()["links"] if each != "br0"] == []


def test_a_del_on_one_network_leaves_the_ports_of_the_other(host: Host) -> None:
    """The reference's nftables backend marks its rules with the container alone."""
    node = host.node("c1")
    mapped = {"type": "portmap", "capabilities": {"portMappings": True}}
    networks = {}
    for number, name in enumerate(("net1", "net2")):
        ipam = {"type": "host-local", "subnet": f"10.{22 + number}.0.0/24"}
        bridge = {"type": "bridge", "bridge": f"br{number}", "isGateway": True, "ipam": ipam}
        port = {"hostPort": 8080 + number, "containerPort": 80, "protocol": "tcp"}
        options = {"ifname": f"eth{number}", "capability_args": {"portMappings": [port]}}
        networks[name] = (host.network(bridge, dict(mapped), name=name), options)
        host.add(networks[name][0], node, **options)
    one, options = networks["net1"]
    for _ in range(2):
        host.delete(one, node, **options)
    other, options = networks["net2"]
    host.check(other, node, **options)
    node.serve(80, "hello")
    assert host.ask("10.23.0.1", 8081).startswith("hello")
    host.delete(other, node, **options)
