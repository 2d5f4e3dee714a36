"""tap: a program in the container has the packets, alone or behind a bridge there."""

from __future__ import annotations

import fcntl
import json
import os
import select
import struct
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cni import plugin
from cni.attachment.verify import DAMAGED
from cni.errors import INVALID_CONFIG, INVALID_ENVIRONMENT, UNSUPPORTED_FIELD, CniError
from cni.plugins import tap
from cni.request import Request
from linux import namespaces

if TYPE_CHECKING:
    from collections.abc import Iterator

    # The fixtures' classes live in conftest.py, which cannot be imported by name.
    Host = Node = Any

IFF_TAP, IFF_NO_PI, IFF_MULTI_QUEUE = 0x2, 0x1000, 0x100
TUNSETIFF = 0x400454CA


def config(host: Host, **options: Any) -> dict[str, Any]:
    routes = [{"dst": "0.0.0.0/0"}]
    ipam = {"type": "host-local", "subnet": "10.22.0.0/24", "routes": routes, "dataDir": str(host.leases)}
    base = {"cniVersion": "1.1.0", "name": "net1", "type": "tap", "ipam": ipam}
    return {key: value for key, value in {**base, **options}.items() if value is not None}


def request(verb: str, given: dict[str, Any], node: Node, **more: Any) -> Any:
    more = {"container_id": node.name, "netns": node.netns, "ifname": "eth0", **more}
    return plugin.perform("tap", Request(verb, given, **more))


def shown(node: Node, name: str = "eth0") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(node("ip", "-j", "-d", "link", "show", name))[0]
    return found


def links(node: Node) -> list[str]:
    return [each["ifname"] for each in json.loads(node("ip", "-j", "link"))]


@contextmanager
def machine(node: Node, name: str = "eth0", flags: int = 0) -> Iterator[int]:
    """A virtual machine's end of the tap: a descriptor that gives one frame at each reading."""
    with namespaces.inside(node.netns):
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI | flags))
        yield fd
    finally:
        os.close(fd)


def arp_request(fd: int) -> str:
    """The address that somebody asks for, whose question comes out of the tap within some seconds."""
    while select.select([fd], [], [], 20)[0]:
        frame = os.read(fd, 2048)
        if frame[12:14] == b"\x08\x06":
            return ".".join(map(str, frame[38:42]))
    return "nobody asked"


def test_a_program_sees_what_the_container_sends(host: Host, nothing: dict[str, list[str]]) -> None:
    node = host.node("c1")
    mac = "c2:11:22:33:44:70"
    result = request("ADD", config(host, mtu=1400, mac=mac), node)
    assert [(each.name, each.mac) for each in result.interfaces] == [("eth0", mac)]
    assert (shown(node)["mtu"], shown(node)["address"]) == (1400, mac)
    with machine(node) as fd:
        node("python3", "-c", "import socket as s; s.socket(2, 2).sendto(b'', ('10.22.0.77', 9))")
        assert arp_request(fd) == "10.22.0.77"
        request("CHECK", {**config(host), "mtu": 1400, "prevResult": result.to_json("1.1.0")}, node)
        # Also while somebody has it open.
        request("DEL", config(host), node)
    request("DEL", config(host), node)
    assert host.left() == nothing
    assert links(node) == ["lo"]


def test_it_outlives_its_maker_with_owner_group_and_queues(host: Host) -> None:
    node = host.node("c1")
    cases: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {"multi_queue": False, "vnet_hdr": False}),
        ({"owner": 64123}, {"user": 64123, "vnet_hdr": False}),
        ({"group": 64124}, {"group": 64124, "vnet_hdr": False}),
        (
            {"owner": 64123, "group": 64124, "multiQueue": True},
            {"user": 64123, "group": 64124, "multi_queue": True, "vnet_hdr": True},
        ),
        ({"owner": 0, "group": 0, "ipam": None}, {"vnet_hdr": True}),
    ]
    for options, wanted in cases:
        result = request("ADD", config(host, **options), node)
        seen = shown(node)["linkinfo"]
        data = seen["info_data"]
        assert (seen["info_kind"], data["type"], data["persist"]) == ("tun", "tap", True)
        assert {key: _number(data[key]) for key in wanted} == wanted
        request("CHECK", {**config(host, **options), "prevResult": result.to_json("1.1.0")}, node)
        request("DEL", config(host, **options), node)
        assert links(node) == ["lo"]


def _number(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isdigit() else value


def test_two_programs_on_two_queues(host: Host) -> None:
    node = host.node("c1")
    request("ADD", config(host, multiQueue=True), node)
    with machine(node, flags=IFF_MULTI_QUEUE), machine(node, flags=IFF_MULTI_QUEUE):
        pass
    with pytest.raises(OSError, match="Invalid argument"), machine(node):
        pass


def test_a_bridge_in_the_container(host: Host, nothing: dict[str, list[str]]) -> None:
    node = host.node("c1")
    with pytest.raises(CniError, match="the container has no bridge cbr") as refused:
        request("ADD", config(host, ipam=None, bridge="cbr"), node)
    assert refused.value.code == INVALID_CONFIG
    node("ip", "link", "add", "cbr", "type", "bridge")
    node("ip", "address", "add", "10.23.0.1/24", "dev", "cbr")
    node("ip", "link", "set", "cbr", "up")
    given = config(host, ipam=None, bridge="cbr")
    result = request("ADD", given, node)
    assert shown(node)["master"] == "cbr"
    with machine(node) as fd:
        node("python3", "-c", "import socket as s; s.socket(2, 2).sendto(b'', ('10.23.0.77', 9))")
        assert arp_request(fd) == "10.23.0.77"
    request("CHECK", {**given, "prevResult": result.to_json("1.1.0")}, node)
    node("ip", "link", "set", "eth0", "nomaster")
    with pytest.raises(CniError, match="not a port of cbr") as damaged:
        request("CHECK", {**given, "prevResult": result.to_json("1.1.0")}, node)
    assert damaged.value.code == DAMAGED
    request("DEL", given, node)
    assert links(node) == ["lo", "cbr"]
    assert host.left() == nothing


def test_the_label_is_that_of_the_program_that_makes_it(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as a kernel without SELinux can show: what is written, and that the tap is made by a program."""
    node = host.node("c1")
    label = "system_u:system_r:container_t:s0"
    given = config(host, selinuxContext=label, multiQueue=True, owner=64123, group=64124)
    if not os.path.exists(tap._SELINUX):
        with pytest.raises(CniError, match="selinuxContext is not supported") as refused:
            request("ADD", given, node)
        assert refused.value.code == UNSUPPORTED_FIELD
    written: list[str] = []
    monkeypatch.setattr(tap, "_SELINUX", "/")
    monkeypatch.setattr(tap, "_label_next_program", written.append)
    request("ADD", given, node)
    assert written == [label, ""]
    data = shown(node)["linkinfo"]["info_data"]
    assert (data["type"], data["persist"], data["multi_queue"]) == ("tap", True, True)
    assert (_number(data["user"]), _number(data["group"])) == (64123, 64124)
    request("DEL", given, node)
    assert links(node) == ["lo"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"owner": -1}, "owner"),
        ({"group": "kvm"}, "group is not an integer"),
        ({"mac": "01:00:00:00:00:01"}, "group"),
        ({"mtu": 65530}, "Invalid argument"),
        ({"bridge": "a b"}, "not a name"),
        ({"ipam": {"type": "static"}}, "missing IP config"),
    ],
)
def test_nothing_is_left_of_an_add_that_fails(
    host: Host, nothing: dict[str, list[str]], options: dict[str, Any], message: str
) -> None:
    node = host.node("c1")
    with pytest.raises(CniError, match=message) as refused:
        request("ADD", config(host, **options), node)
    assert refused.value.code == INVALID_CONFIG
    assert host.left() == nothing
    assert links(node) == ["lo"]


def test_del_in_every_order_and_gc(host: Host, nothing: dict[str, list[str]]) -> None:
    node = host.node("c1")
    given = config(host)
    request("DEL", given, node)
    for netns in (None, "/run/netns/gone"):
        request("ADD", given, node)
        with pytest.raises(CniError, match="has an interface eth0 already") as refused:
            request("ADD", given, node)
        assert refused.value.code == INVALID_ENVIRONMENT
        request("DEL", given, node, netns=netns)
        assert host.left() == nothing
        assert links(node) == ["lo"]
    request("ADD", given, node)
    request("STATUS", given, node)
    node.vanish()
    request("GC", {**given, "cni.dev/valid-attachments": []}, node, netns=None)
    assert host.left() == nothing
