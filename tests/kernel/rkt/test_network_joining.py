"""Joining pods to networks in real namespaces: results, failure, kills, and what gc finds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid as uuids
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from appc.schema.pod import PodManifest
from cni import state
from cni.ipam import leases
from cni.ipam.dhcp import leases as dhcp_leases
from fixtures import dhcp
from linux.namespaces import inside
from rkt import network
from rkt.errors import RktError
from rkt.network import joining, plan

GO = Path("/usr/lib/cni")
NETNS = Path("/run/netns")

# A network plugin of no network: it keeps a file for each attachment, and does what `test` says.
FOREIGN = f"""#!{sys.executable}
import json, os, signal, sys
given = json.loads(sys.stdin.read())
verb, test = os.environ["CNI_COMMAND"], given.get("test", {{}})
mark = os.path.join(given["marks"], os.environ["CNI_CONTAINERID"] + "-" + os.environ["CNI_IFNAME"])
log = open(os.path.join(given["marks"], "log"), "a")
log.write(verb + " " + given["name"] + "\\n")
log.close()
if verb == "ADD":
    open(mark, "w").close()
if test.get(verb) == "fail":
    print(json.dumps({{"code": 100, "msg": "told to fail"}}))
    sys.exit(1)
if test.get(verb) == "kill":
    os.kill(os.getppid(), signal.SIGKILL)
if verb == "DEL" and os.path.exists(mark):
    os.unlink(mark)
if verb == "ADD":
    print(json.dumps({{"ip4": {{"ip": test.get("ip", "10.9.0.2/24")}}, "dns": test.get("dns", {{}})}}))
"""


class Host:
    """A host with a data directory, a configuration and pods."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        self.config = directory / "config"
        self.networks = directory / "networks"
        self.marks = directory / "marks"
        self.marks.mkdir()
        self.pods: list[Pod] = []
        NETNS.mkdir(exist_ok=True)
        (self.config / "net.d").mkdir(parents=True)
        foreign = self.config / "net.d/foreign"
        foreign.write_text(FOREIGN)
        foreign.chmod(0o755)

    def define(self, file_name: str, **value: Any) -> None:
        value.setdefault("ipam", {}).setdefault("dataDir", str(self.networks))
        (self.config / "net.d" / file_name).write_text(json.dumps(value))

    def foreign(self, file_name: str, name: str, **test: Any) -> None:
        self.define(file_name, name=name, type="foreign", marks=str(self.marks), test=test)

    def log(self) -> list[str]:
        return (self.marks / "log").read_text().splitlines()

    def left(self) -> list[str]:
        """What is left of attachments and leases."""
        found = [each.name for each in self.marks.iterdir() if each.name != "log"]
        for each in self.networks.rglob("*"):
            if each.is_file() and each.name != "lock" and not each.name.startswith("last_"):
                found.append(each.name)
        registry = Path(plan.REGISTRY)
        found += [each.name for each in registry.iterdir()] if registry.exists() else []
        return [*found, *(f"{plugin}:{request.container_id}" for plugin, request in state.every())]

    def pod(self) -> Pod:
        pod = Pod(self)
        pod.netns.touch()
        subprocess.run(["unshare", f"--net={pod.netns}", "true"], check=True)
        self.pods.append(pod)
        return pod


class Pod:
    def __init__(self, host: Host) -> None:
        self.host = host
        self.uuid = str(uuids.uuid4())
        self.directory = host.data / "pods/run" / self.uuid
        self.directory.mkdir(parents=True)
        self.netns = NETNS / f"cni-{self.uuid}"
        self.remarks: list[str] = []

    def setup(self, *net: str, **manifest: list[dict[str, Any]]) -> list[Any]:
        """Join the networks `net`; `manifest` is what is in the pod's."""
        text = json.dumps({"acVersion": "0.8.11", "acKind": "PodManifest", "apps": [], **manifest})
        return network.setup(
            str(self.directory),
            self.uuid,
            str(self.netns),
            network.parse_net_flags(net),
            PodManifest.parse(text.encode()),
            str(self.host.config),
            self.remarks,
        )

    def unpin(self) -> None:
        if self.netns.exists():
            subprocess.run(["umount", self.netns], check=True)
            self.netns.unlink()

    @contextmanager
    def inhabitant(self) -> Iterator[None]:
        """A process in the pod's network namespace."""
        command = ["nsenter", f"--net={self.netns}", "sh", "-c", "echo; exec cat"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            yield

    def teardown(self) -> None:
        network.teardown(str(self.directory), self.uuid)

    def ip(self, *words: str) -> Any:
        done = subprocess.run(
            ["ip", "-n", self.netns.name, "-j", *words], check=True, capture_output=True, text=True
        )
        return json.loads(done.stdout or "[]")

    def addresses(self, ifname: str) -> list[str]:
        (link,) = self.ip("addr", "show", "dev", ifname)
        return [
            f"{each['local']}/{each['prefixlen']}" for each in link["addr_info"] if each["scope"] != "link"
        ]


@pytest.fixture
def host(root: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setattr(leases, "DIRECTORY", str(tmp_path / "networks"))
    monkeypatch.setattr(plan, "REGISTRY", str(tmp_path / "registry"))
    monkeypatch.setattr(joining, "LOCK", str(tmp_path / "lock/network"))
    monkeypatch.setattr(state, "DIRECTORY", str(tmp_path / "records"))
    host = Host(tmp_path)
    yield host
    for pod in host.pods:
        pod.unpin()
    NETNS.rmdir()
    subprocess.run(["ip", "link", "delete", "gobr0"], check=False, stderr=subprocess.DEVNULL)
    assert host.left() == []


def test_a_pod_without_networks_has_lo(host: Host) -> None:
    pod = host.pod()
    assert pod.setup("none") == []
    assert pod.addresses("lo") == ["127.0.0.1/8", "::1/128"]
    assert (pod.directory / "net-info.json").read_text() == "[]"
    pod.teardown()


def test_networks_are_joined_in_order_and_left_in_reverse(host: Host) -> None:
    host.foreign("20-b.conf", "b", ip="10.9.1.2/24", dns={"nameservers": ["10.9.1.1"]})
    host.foreign("10-a.conf", "a")
    pod = host.pod()
    infos = pod.setup("b", "a")
    assert [(each.name, each.if_name, str(each.ip4)) for each in infos] == [
        ("a", "eth0", "10.9.0.2/24"),
        ("b", "eth1", "10.9.1.2/24"),
    ]
    assert network.resolv_conf(infos) == "# Generated by rkt from network b\n\nnameserver 10.9.1.1\n"
    shown = json.loads((pod.directory / "net-info.json").read_text())
    assert [(each["netName"], each["ifName"], each["ip"], each["mask"]) for each in shown] == [
        ("a", "eth0", "10.9.0.2", "255.255.255.0"),
        ("b", "eth1", "10.9.1.2", "255.255.255.0"),
    ]
    assert Path(shown[0]["netConf"]).parent == pod.directory / "net"
    assert len(host.left()) == 3
    pod.teardown()
    pod.teardown()
    assert host.log() == ["ADD a", "ADD b", "DEL b", "DEL a"]


def test_a_pod_on_a_lan_with_dhcp(host: Host, tmp_path: Path) -> None:
    host.define("10-lan.conf", name="lan", type="bridge", bridge="lan0", ipam={"type": "dhcp"})
    options = "--dhcp-range=10.77.0.50,10.77.0.99,1h", "--dhcp-option=6,10.77.0.2"
    subprocess.run(["ip", "link", "add", "lan0", "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "address", "add", "10.77.0.1/24", "dev", "lan0"], check=True)
        subprocess.run(["ip", "link", "set", "lan0", "up"], check=True)
        with dhcp.Dnsmasq(tmp_path, "lan0", *options) as server, dhcp.Daemon():
            pod, gone = host.pod(), host.pod()
            (info,) = pod.setup("lan")
            gone.setup("lan")
            assert [str(info.ip4)] == pod.addresses("eth0")
            assert server.comes_to(pod.addresses("eth0")[0][:-3], gone.addresses("eth0")[0][:-3])
            assert (
                network.resolv_conf([info]) == "# Generated by rkt from network lan\n\nnameserver 10.77.0.2\n"
            )
            pod.teardown()
            assert server.comes_to(gone.addresses("eth0")[0][:-3])
            gone.unpin()
            gone.teardown()
        assert os.listdir(dhcp_leases.DIRECTORY) == [".daemon"]
    finally:
        subprocess.run(["ip", "link", "delete", "lan0"], check=True)
        for path in (dhcp_leases.DIRECTORY, "/run/cni"):
            shutil.rmtree(path, ignore_errors=True)


def test_what_failed_and_what_came_before_is_undone(host: Host) -> None:
    host.foreign("10-a.conf", "a")
    host.foreign("20-b.conf", "b", ADD="fail")
    host.foreign("30-c.conf", "c")
    pod = host.pod()
    with pytest.raises(RktError, match=r'error adding network "b": .*told to fail'):
        pod.setup("a", "b", "c")
    assert host.log() == ["ADD a", "ADD b", "DEL c", "DEL b", "DEL a"]
    assert host.left() == []
    assert not (pod.directory / "net-info.json").exists()


def test_leaving_goes_on_after_an_error_and_can_be_tried_again(host: Host) -> None:
    host.foreign("10-a.conf", "a")
    host.foreign("20-b.conf", "b", DEL="fail")
    pod = host.pod()
    pod.setup("a", "b")
    with pytest.raises(RktError, match=r'error deleting network "b": .*told to fail'):
        pod.teardown()
    assert host.log()[2:] == ["DEL b", "DEL a"]
    # The configuration as it was at the start counts: the user may have mended or removed the file.
    (host.config / "net.d/20-b.conf").unlink()
    record = Path(plan.REGISTRY) / pod.uuid
    for path in (record, pod.directory / "net/plan.json"):
        path.write_text(path.read_text().replace("fail", "work"))
    pod.teardown()


def test_the_networks_are_left_even_if_the_namespace_is_gone(host: Host) -> None:
    host.foreign("10-a.conf", "a")
    pod = host.pod()
    pod.setup("a")
    pod.unpin()
    pod.teardown()


def test_killed_while_joining_the_plan_is_there_for_gc(host: Host) -> None:
    host.foreign("10-a.conf", "a")
    host.foreign("20-b.conf", "b", ADD="kill")
    pod = host.pod()
    child = os.fork()
    if child == 0:
        try:
            # Nobody is left to undo anything: the plugin kills the child that runs it, and we are killed too.
            joining._undo = lambda *_: os.kill(os.getpid(), 9)  # type: ignore[assignment]
            pod.setup("a", "b")
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
    assert len([each for each in host.marks.iterdir() if each.name != "log"]) == 2
    network.reconcile({pod.uuid}, str(host.data))  # there still is a pod of that name
    network.reconcile(set(), str(host.data))  # and a directory, which is what counts
    assert len(host.left()) == 3
    pod.teardown()


def test_gc_takes_pods_without_a_directory_off_their_networks(host: Host, tmp_path: Path) -> None:
    host.foreign("10-a.conf", "a")
    gone, alive = host.pod(), host.pod()
    for pod in (gone, alive):
        pod.setup("a")
    (tmp_path / "elsewhere").mkdir()
    gone.directory.rename(tmp_path / "elsewhere/pod")
    network.reconcile({alive.uuid}, str(tmp_path / "other-data"))  # not its pod
    assert {each.uuid for each in plan.registered()} == {gone.uuid, alive.uuid}
    stranger = host.pod()  # another runtime's namespace, named in the same way
    network.reconcile({alive.uuid}, str(host.data))
    assert [pod.netns.exists() for pod in (gone, alive, stranger)] == [False, True, True]
    assert {each.uuid for each in plan.registered()} == {alive.uuid}
    assert [each.name for each in host.marks.iterdir() if each.name != "log"] == [f"{alive.uuid}-eth0"]
    alive.teardown()
    network.reconcile(set(), str(host.data))


def test_gc_knows_a_data_directory_made_anew_from_one_of_another_root(host: Host) -> None:
    if os.stat("/proc/self/ns/pid").st_ino != 0xEFFFFFFC:
        pytest.skip("in a PID namespace nobody can tell whose pods live")
    host.foreign("10-a.conf", "a")
    pod = host.pod()
    pod.setup("a")
    host.data.rename(host.data.with_name("removed"))
    host.data.mkdir()
    with pod.inhabitant():
        network.reconcile(set(), str(host.data))
        assert host.left() == [f"{pod.uuid}-eth0", pod.uuid]
    network.reconcile(set(), str(host.data))
    assert host.left() == []
    assert not pod.netns.exists()


def test_gc_frees_leases_of_another_boot(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    host.define("10-a.conf", name="a", type="host-local", ipam={"subnet": "10.8.0.0/24"})
    pod = host.pod()
    (info,) = pod.setup("a:IP=10.8.0.77")
    assert str(info.ip4) == "10.8.0.77/24"
    network.reconcile({pod.uuid}, str(host.data))
    assert "10.8.0.77" in host.left()
    (tmp_path / "boot").write_text("another")
    monkeypatch.setattr(state, "BOOT_ID", str(tmp_path / "boot"))
    network.reconcile({pod.uuid}, str(host.data))
    assert "10.8.0.77" not in host.left()
    pod.teardown()


def test_gc_collects_records_of_plugins_whose_pod_and_namespace_are_gone(host: Host) -> None:
    host.define("10-a.conf", name="a", type="host-local", ipam={"subnet": "10.8.0.0/24"})
    pod = host.pod()
    pod.setup("a")
    (Path(plan.REGISTRY) / pod.uuid).unlink()
    network.reconcile(set(), str(host.data))
    assert "10.8.0.2" in host.left()  # the namespace is there: somebody may be using it
    pod.unpin()
    network.reconcile(set(), str(host.data))
    assert host.left() == []
    pod.teardown()


def test_the_talk_s_network_with_go_plugins_and_ours_on_one_node(host: Host, checkout: Path) -> None:
    if not (GO / "bridge").exists():
        pytest.skip("needs containernetworking-plugins")
    (host.config / "net.d/bridge").symlink_to(GO / "bridge")
    (host.config / "net.d/host-local").symlink_to(checkout / "lib/cni/host-local")
    ipam = {"type": "host-local", "subnet": "10.10.0.0/16"}
    host.define("10-mynet.conf", name="mynet", type="bridge", bridge="gobr0", ipam=ipam)
    first, second = host.pod(), host.pod()
    assert str(first.setup("mynet")[0].ip4) == "10.10.0.2/16"
    assert str(second.setup("mynet")[0].ip4) == "10.10.0.3/16"
    assert first.addresses("eth0") == ["10.10.0.2/16"]
    with inside(first.netns):
        ping = ["busybox", "ping", "-c1", "-W5", "10.10.0.3"]
        subprocess.run(ping, check=True, stdout=subprocess.DEVNULL)
    third = host.pod()
    with pytest.raises(RktError, match=r"10\.10\.0\.3 is not available"):
        third.setup("mynet:IgnoreUnknown=1;IP=10.10.0.3")
    for pod in (first, second):
        pod.teardown()
    records = Path("/run/rkt-platform/cni")  # of the plugin's own process
    assert list(records.iterdir()) == []
    records.rmdir()
    if not list(records.parent.iterdir()):  # other tests of this worker may have made it
        records.parent.rmdir()


def test_unknown_networks_and_undeclared_ports_change_nothing(host: Host) -> None:
    pod = host.pod()
    with pytest.raises(RktError, match="networks not found: nope"):
        pod.setup("nope")
    host.define("10-a.conf", name="a", type="no-such-plugin")
    host.define("20-b.conf", name="b", type="ptp", ipam={"type": "no-such-ipam"})
    for name in "ab":
        with pytest.raises(RktError, match=f'error adding network "{name}": failed to find plugin'):
            pod.setup(name)
    with pytest.raises(RktError, match='port name "http" could not be found'):
        pod.setup("default", ports=[{"name": "http", "hostPort": 80}])
    mapped = {"name": "x", "hostPort": 1, "podPort": {"name": "x", "protocol": "tcp", "port": 1}}
    with pytest.raises(RktError, match="--port flag does not work with 'none' networking"):
        pod.setup("none", ports=[mapped])
    assert pod.setup("host") == []
    assert not (pod.directory / "net").exists()


def _rates() -> list[int]:
    """Bytes a second of the token buckets on the host's interfaces."""
    queues = json.loads(subprocess.check_output(["tc", "-j", "qdisc", "show"]))
    return [each["options"]["rate"] for each in queues if each["kind"] == "tbf"]


def _limit(quantity: str) -> list[dict[str, Any]]:
    return [{"name": "resource/network-bandwidth", "value": {"default": True, "limit": quantity}}]


@pytest.mark.parametrize("kind", ["bridge", "ptp"])
def test_bandwidth_is_limited_in_both_directions_of_each_interface(host: Host, kind: str) -> None:
    ipam = {"type": "host-local", "subnet": "10.78.0.0/24"}
    host.define("10-a.conf", name="a", type=kind, ipam=ipam)
    pod = host.pod()
    try:
        pod.setup("a", isolators=_limit("1M"))
        assert pod.remarks == []
        assert _rates() == [1_000_000, 1_000_000], "of its end here, and of an ifb device for what it sends"
    finally:
        pod.teardown()
        subprocess.run(["ip", "link", "delete", "cni0"], check=False, capture_output=True)
    assert _rates() == []


def test_a_network_that_cannot_be_limited_is_told(host: Host) -> None:
    host.foreign("10-a.conf", "a")
    pod = host.pod()
    pod.setup("a", isolators=_limit("1M"))
    (remark,) = pod.remarks
    assert 'network "a"' in remark
    pod.teardown()
