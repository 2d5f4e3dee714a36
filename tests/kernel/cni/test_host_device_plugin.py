"""host-device: a device goes to the container and comes back as it was, by whatever name it is asked for."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cni import plugin
from cni.attachment.verify import DAMAGED
from cni.errors import INVALID_CONFIG, INVALID_ENVIRONMENT, PLUGIN_NOT_AVAILABLE, TRY_AGAIN_LATER, CniError
from cni.plugins import host_device
from cni.request import Request
from linux import namespaces
from linux.netlink import link
from linux.netlink.batch import commit
from linux.netlink.socket import ROUTE, open_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    # The fixtures' classes live in conftest.py, which cannot be imported by name.
    Host = Node = Any

MAC = "02:00:00:00:00:20"
PCI = "0000:03:00.0"


def run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def machine(host: Host) -> Host:
    """The host with the device hd0, up, whose other end is hd1."""
    run("ip", "link", "add", "hd0", "address", MAC, "mtu", "1400", "type", "veth", "peer", "name", "hd1")
    run("ip", "link", "set", "hd0", "up", "alias", "to the rack")
    run("ip", "link", "set", "hd1", "up")
    return host


@pytest.fixture
def buses(tmp_path: Path) -> Iterator[Path]:
    """An empty /sys/bus and /sys/devices, which nobody else sees."""
    with ExitStack() as stack:
        for name in ("bus", "devices"):
            (tmp_path / name).mkdir()
            run("mount", "--bind", str(tmp_path / name), f"/sys/{name}")
            stack.callback(run, "umount", f"/sys/{name}")
        yield tmp_path


def config(host: Host, **options: Any) -> dict[str, Any]:
    ipam = {"type": "host-local", "subnet": "10.22.0.0/24", "dataDir": str(host.leases)}
    base = {"cniVersion": "1.1.0", "name": "net1", "type": "host-device", "device": "hd0", "ipam": ipam}
    return {key: value for key, value in {**base, **options}.items() if value is not None}


def request(verb: str, given: dict[str, Any], node: Node, **more: Any) -> Any:
    more = {"container_id": node.name, "netns": node.netns, "ifname": "eth0", **more}
    return plugin.perform("host-device", Request(verb, given, **more))


def device(name: str = "hd0") -> dict[str, Any]:
    """What should be as before."""
    found = json.loads(run("ip", "-j", "link", "show", name))[0]
    return {key: found.get(key) for key in ("ifname", "address", "mtu", "ifalias")} | {
        "up": "UP" in found["flags"]
    }


def return_by_itself(node: Node) -> None:
    """As the kernel does with hardware when the container's namespace ends: down, under a name of its own."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        (socket,) = open_in(node.netns, ROUTE)
        with socket:
            found = link.get(socket, "eth0")
            assert found is not None
            commit(socket, link.hand_over(found.index, here, "dev7", alias="hd0"))
    finally:
        os.close(here)


BEFORE = {"ifname": "hd0", "address": MAC, "mtu": 1400, "ifalias": "to the rack", "up": True}
LEFT = {"links": ["hd1", "hd0"], "tables": [], "records": [], "leases": []}


def test_there_and_back(machine: Host) -> None:
    node = machine.node("c1")
    result = request("ADD", config(machine), node)
    seen = json.loads(node("ip", "-j", "address", "show", "eth0"))[0]
    seen |= json.loads(node("ip", "-j", "link", "show", "eth0"))[0]
    assert (seen["address"], seen["ifalias"], seen["mtu"]) == (MAC, "hd0", 1400)
    assert seen["addr_info"][0]["local"] == "10.22.0.2"
    assert "UP" in seen["flags"]
    own = result.interfaces[0]
    assert (own.name, own.mac, own.sandbox) == ("eth0", MAC, node.netns)
    run("ip", "address", "add", "10.22.0.1/24", "dev", "hd1")
    node.serve(80, "device")
    assert machine.ask("10.22.0.2", 80) == "device 10.22.0.1"
    request("CHECK", {**config(machine), "prevResult": result.to_json("1.1.0")}, node)
    request("STATUS", config(machine), node)
    with pytest.raises(CniError, match="container c1 of network net1 has it") as refused:
        request("ADD", config(machine), machine.node("c2"))
    assert refused.value.code == INVALID_CONFIG
    for _ in range(2):
        request("DEL", config(machine), node)
        assert device() == BEFORE
        assert machine.left() == LEFT


def test_without_an_ipam_plugin_and_down_before(machine: Host) -> None:
    node = machine.node("c1")
    run("ip", "link", "set", "hd0", "down")
    request("ADD", config(machine, ipam=None), node)
    assert "UP" in json.loads(node("ip", "-j", "link", "show", "eth0"))[0]["flags"]
    request("DEL", config(machine, ipam=None), node)
    assert device() == {**BEFORE, "up": False}


def test_names_that_are_taken_on_either_side(machine: Host) -> None:
    """A device called eth0 in a host with another hd0, and one that the container has a name of."""
    node = machine.node("c1")
    node("ip", "link", "add", "hd0", "type", "veth", "peer", "name", "other")
    request("ADD", config(machine), node)
    run("ip", "link", "set", "hd1", "name", "hd0")
    with pytest.raises(CniError, match="eth0 cannot come back as hd0") as refused:
        request("DEL", config(machine), node)
    assert refused.value.code == TRY_AGAIN_LATER
    run("ip", "link", "set", "hd0", "name", "hd1")
    request("DEL", config(machine), node)
    assert device() == BEFORE
    with pytest.raises(CniError, match="has an interface other already") as refused:
        request("ADD", config(machine), node, ifname="other")
    assert refused.value.code == INVALID_ENVIRONMENT
    assert device() == BEFORE


@pytest.mark.parametrize(
    "command",
    [
        "ip link set eth0 address 02:00:00:00:00:66",
        "ip link set eth0 mtu 1300",
        "ip link set eth0 alias nobody",
        "ip link set eth0 name mine",
        "ip link set eth0 down",
    ],
)
def test_what_the_container_changed_is_as_before(machine: Host, command: str) -> None:
    node = machine.node("c1")
    request("ADD", config(machine), node)
    node(*command.split())
    request("DEL", config(machine), node)
    assert device() == BEFORE
    assert machine.left() == LEFT


def test_a_link_of_the_containers_own_does_not_come_to_the_host(machine: Host) -> None:
    node = machine.node("c1")
    request("ADD", config(machine), node)
    node("ip", "link", "del", "eth0")
    node("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "trap")
    request("DEL", config(machine), node)
    assert machine.left() == {**LEFT, "links": []}
    assert "trap" in node("ip", "link")


def test_a_device_that_returned_by_itself_gets_its_name_back(machine: Host) -> None:
    node = machine.node("c1")
    request("ADD", config(machine), node)
    return_by_itself(node)
    node.vanish()
    for _ in range(2):
        request("DEL", config(machine), node, netns=None)
        assert device() == BEFORE
        assert machine.left() == LEFT


def test_hardware_that_the_kernel_has_not_brought_back_yet(
    machine: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does so in the background: a DEL right after the container's end is earlier."""
    kind = link.Link.kind.fget
    assert kind is not None
    monkeypatch.setattr(link.Link, "kind", property(lambda self: kind(self).replace("veth", "")))
    node = machine.node("c1")
    request("ADD", config(machine), node)
    looks: list[int] = []

    def pause(seconds: float) -> None:
        looks.append(1)
        if len(looks) == 3:
            return_by_itself(node)

    monkeypatch.setattr(host_device, "sleep", pause)
    monkeypatch.setattr(host_device.chained, "place", lambda *_: None)
    request("DEL", config(machine), node)
    assert len(looks) == 3
    assert device() == BEFORE
    # One that never returns is waited for, and then given up.
    request("ADD", config(machine), node)
    looks[:] = [1] * 3
    monkeypatch.setattr(host_device, "_RETURN_DEADLINE", 0.0)
    request("DEL", config(machine), node)
    assert machine.left() == {**LEFT, "links": ["hd1"]}


def test_a_device_that_ended_with_the_container(machine: Host) -> None:
    node = machine.node("c1")
    request("ADD", config(machine), node)
    node.vanish()
    request("GC", {**config(machine), "cni.dev/valid-attachments": []}, node, netns=None)
    # The kernel takes its time to end a namespace, and the other end with it.
    assert {**machine.left(), "links": []} == {**LEFT, "links": []}


def test_del_without_add_and_netns(machine: Host) -> None:
    node = machine.node("c1")
    for netns in (node.netns, None, "/run/netns/gone"):
        request("DEL", config(machine), node, netns=netns)
    request("ADD", config(machine), node)
    request("DEL", {**config(machine), "device": "gone0"}, node, netns="")
    assert device() == BEFORE
    assert machine.left() == LEFT


def test_by_address_and_path(machine: Host, buses: Path) -> None:
    node = machine.node("c1")
    (buses / "devices/pci0000:00/0000:03:00.0/net/hd0").mkdir(parents=True)
    path = "/sys/devices/pci0000:00/0000:03:00.0"
    for options in ({"hwaddr": MAC.upper()}, {"hwaddr": MAC.replace(":", "-")}, {"kernelpath": path}):
        given = config(machine, device=None, **options)
        request("STATUS", given, node)
        result = request("ADD", given, node)
        assert result.interfaces[0].mac == MAC
        request("DEL", given, node)
        assert device() == BEFORE
    for bad in ("/etc", "/sys/devices/../../etc", "sys/devices/x"):
        with pytest.raises(CniError, match="is not below /sys/devices") as refused:
            request("ADD", config(machine, device=None, kernelpath=bad), node)
        assert refused.value.code == INVALID_CONFIG


def test_by_bus(machine: Host, buses: Path) -> None:
    node = machine.node("c1")
    pci, auxiliary = buses / "bus/pci/devices" / PCI, buses / "bus/auxiliary/devices"
    (pci / "net/hd0").mkdir(parents=True)
    (auxiliary / "mlx5_core.sf.4/net/hd0").mkdir(parents=True)
    virtio = pci.parent / "0000:04:00.0/virtio2/net/hd0"
    virtio.mkdir(parents=True)
    for options in (
        {"pciBusID": PCI},
        {"pciBusID": "0000:04:00.0"},
        {"runtimeConfig": {"deviceID": PCI}},
        {"runtimeConfig": {"deviceID": "mlx5_core.sf.4"}},
        {"pciBusID": "0000:99:00.0", "runtimeConfig": {"deviceID": PCI}},
    ):
        given = config(machine, device=None, **options)
        result = request("ADD", given, node)
        assert result.interfaces[0].mac == MAC
        assert result.interfaces[0].pci_id in (PCI, "0000:04:00.0", "")
        request("CHECK", {**given, "prevResult": result.to_json("1.1.0")}, node)
        request("DEL", config(machine, device=None), node)
        assert device() == BEFORE
    for name, message in (("0000:99:00.0", "not found or unsupported"), ("../devices/x", "not the name")):
        with pytest.raises(CniError, match=message) as refused:
            request("ADD", config(machine, device=None, runtimeConfig={"deviceID": name}), node)
        assert refused.value.code == INVALID_CONFIG
    request("STATUS", config(machine, device=None), node)


@pytest.mark.parametrize("driver", ["vfio-pci", "uio_pci_generic", "igb_uio"])
def test_a_device_that_a_program_drives_stays(machine: Host, buses: Path, driver: str) -> None:
    node = machine.node("c1")
    pci = buses / "bus/pci/devices" / PCI
    pci.mkdir(parents=True)
    (pci / "driver").symlink_to(f"../../drivers/{driver}")
    given = config(machine, device=None, runtimeConfig={"deviceID": PCI})
    result = request("ADD", given, node)
    shown = result.to_json("1.1.0")
    assert shown["interfaces"] == [{"name": "eth0", "sandbox": node.netns, "pciID": PCI}]
    assert shown["ips"] == [{"interface": 0, "address": "10.22.0.2/24", "gateway": "10.22.0.1"}]
    assert [each["ifname"] for each in json.loads(node("ip", "-j", "link"))] == ["lo"]
    request("CHECK", {**given, "prevResult": shown}, node)
    request("DEL", config(machine, device=None), node)
    assert machine.left() == LEFT
    bare = config(machine, device=None, pciBusID=PCI, ipam=None)
    assert request("ADD", bare, node).ips == ()
    request("DEL", bare, node)
    assert machine.left() == LEFT


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "nope"}, "the host has no device nope"),
        ({"device": None}, "specify either"),
        ({"device": "a/b"}, "not a name for a network interface"),
        ({"device": None, "hwaddr": "02:00:00:00:00:99"}, "no device 02:00:00:00:00:99"),
        ({"ipam": {"type": "static"}}, "missing IP config"),
        ({"ipam": {"type": "nobody"}}, "failed to find plugin"),
        (
            {
                "ipam": {
                    "type": "static",
                    "addresses": [{"address": "10.22.0.9/24"}],
                    "routes": [{"dst": "10.9.0.0/16", "gw": "172.31.0.1"}],
                }
            },
            "route to 10.9.0.0/16",
        ),
    ],
)
def test_an_add_that_fails_leaves_the_device(machine: Host, options: dict[str, Any], message: str) -> None:
    node = machine.node("c1")
    with pytest.raises(CniError, match=message):
        request("ADD", config(machine, **options), node)
    assert device() == BEFORE
    assert machine.left() == LEFT


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("ip link del eth0", "no interface eth0"),
        ("ip link set eth0 address 02:00:00:00:00:66", "MAC address"),
        ("ip address del 10.22.0.2/24 dev eth0", "lacks addresses"),
    ],
)
def test_check_sees_damage(machine: Host, command: str, message: str) -> None:
    node = machine.node("c1")
    result = request("ADD", config(machine), node)
    node(*command.split())
    with pytest.raises(CniError, match=message) as refused:
        request("CHECK", {**config(machine), "prevResult": result.to_json("1.1.0")}, node)
    assert refused.value.code == DAMAGED


def test_status_says_what_an_add_would(machine: Host) -> None:
    node = machine.node("c1")
    with pytest.raises(CniError, match="no device gone0") as refused:
        request("STATUS", config(machine, device="gone0"), node)
    assert refused.value.code == PLUGIN_NOT_AVAILABLE


def test_lo_stays(machine: Host) -> None:
    node = machine.node("c1")
    with pytest.raises(CniError, match="lo cannot leave the host"):
        request("ADD", config(machine, device="lo"), node)
    assert machine.left() == LEFT
    with namespaces.inside(node.netns):
        assert "lo" in run("ip", "link")
