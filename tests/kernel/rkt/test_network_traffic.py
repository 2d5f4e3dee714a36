"""What the networks are for: bytes between the host, pods and the world, by rkt's own set-up."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import uuid as uuids
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appc.schema.pod import PodManifest
from cni import plugins, state
from cni.ipam import leases
from linux.namespaces import inside
from rkt import network
from rkt.errors import RktError
from rkt.network import joining, plan

WORLD = "203.0.113.9"


class Pod:
    """A pod with a web server that says its name."""

    def __init__(self, top: Path, config: Path) -> None:
        self.uuid = str(uuids.uuid4())
        self.directory = top / "data/pods/run" / self.uuid
        self.directory.mkdir(parents=True)
        self.config = config
        self.netns = Path("/run/netns") / f"cni-{self.uuid}"
        self.netns.parent.mkdir(exist_ok=True)
        self.netns.touch()
        subprocess.run(["unshare", f"--net={self.netns}", "true"], check=True)
        self.joined = False
        self.server: subprocess.Popen[bytes] | None = None

    def join(self, *net: str, ports: tuple[tuple[int, str], ...] = ()) -> list[Any]:
        app: dict[str, Any] = {"exec": ["/a"], "user": "0", "group": "0"}
        app["ports"] = [{"name": "http", "protocol": "tcp", "port": 80}]
        manifest: dict[str, Any] = {"acVersion": "0.8.11", "acKind": "PodManifest"}
        manifest["apps"] = [{"name": "a", "image": {"id": "sha512-" + "0" * 128}, "app": app}]
        manifest["ports"] = [
            {"name": "http", "hostPort": port, **({"hostIP": address} if address else {})}
            for port, address in ports
        ]
        found = network.setup(
            str(self.directory),
            self.uuid,
            str(self.netns),
            network.parse_net_flags(net),
            PodManifest.parse(json.dumps(manifest).encode()),
            str(self.config),
            [],
        )
        self.joined = True
        return found

    def serve(self) -> None:
        (self.directory / "index.html").write_text(self.uuid)
        command = ["busybox", "httpd", "-f", "-p", "[::]:80", "-h", str(self.directory)]
        self.server = subprocess.Popen(["nsenter", f"--net={self.netns}", *command])
        with inside(self.netns):
            for _ in range(100):
                if get("127.0.0.1", 80) == self.uuid:
                    return
                time.sleep(0.02)
        raise AssertionError("the web server does not come up")

    def end(self) -> None:
        if self.server is not None:
            self.server.kill()
            self.server.wait()
        if self.joined:
            network.teardown(str(self.directory), self.uuid)
        subprocess.run(["umount", self.netns], check=True)
        self.netns.unlink()


def get(address: str, port: int, *, timeout: float = 2) -> str | None:
    """The body of a web page; None when nobody answers."""
    try:
        with socket.create_connection((address, port), timeout=timeout) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = b""
            while part := connection.recv(4096):
                answer += part
    except OSError:
        return None
    return answer.rpartition(b"\r\n\r\n")[2].decode()


class Host:
    def __init__(self, top: Path) -> None:
        self.top = top
        self.config = top / "config"
        (self.config / "net.d").mkdir(parents=True)
        self.pods: list[Pod] = []

    def pod(self) -> Pod:
        pod = Pod(self.top, self.config)
        self.pods.append(pod)
        return pod


@pytest.fixture
def host(root: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """The test's own "host" with one interface to a world that is another namespace."""
    for kind in ("ptp", "bridge", "portmap"):
        try:
            plugins.load(kind)
        except ImportError:
            pytest.skip(f"there is no {kind} yet")
    monkeypatch.setattr(leases, "DIRECTORY", str(tmp_path / "networks"))
    monkeypatch.setattr(plan, "REGISTRY", str(tmp_path / "registry"))
    monkeypatch.setattr(joining, "LOCK", str(tmp_path / "lock/network"))
    monkeypatch.setattr(state, "DIRECTORY", str(tmp_path / "records"))
    world = Path("/run/netns/world")
    world.parent.mkdir(exist_ok=True)
    world.touch()
    subprocess.run(["unshare", f"--net={world}", "true"], check=True)
    ip("link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", "world")
    ip("addr", "add", "203.0.113.1/24", "dev", "up0")
    ip("link", "set", "up0", "up")
    ip("-n", "world", "addr", "add", f"{WORLD}/24", "dev", "eth0")
    ip("-n", "world", "link", "set", "eth0", "up")
    ip("-n", "world", "link", "set", "lo", "up")
    host = Host(tmp_path)
    yield host
    for pod in host.pods:
        pod.end()
    ip("link", "delete", "up0")
    subprocess.run(["ip", "link", "delete", "net6br0"], check=False, stderr=subprocess.DEVNULL)
    subprocess.run(["umount", world], check=True)
    world.unlink()
    world.parent.rmdir()
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    for table in tables.splitlines():
        subprocess.run(["nft", "delete", *table.split()], check=True)
    assert not [path for path in (tmp_path / "networks").rglob("*.*.*.*") if path.is_file()]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def test_a_forwarded_port_leads_into_the_pod_from_everywhere(host: Host) -> None:
    pod = host.pod()
    (info,) = pod.join("default", ports=((8080, ""), (8081, "127.0.0.1")))
    assert str(info.ip4) == "172.16.28.2/24"
    pod.serve()
    assert get("172.16.28.2", 80) == pod.uuid
    assert get("127.0.0.1", 8080) == pod.uuid
    assert get("203.0.113.1", 8080) == pod.uuid
    assert get("127.0.0.1", 8081) == pod.uuid
    assert get("203.0.113.1", 8081, timeout=0.5) is None
    with inside("/run/netns/world"):
        assert get("203.0.113.1", 8080) == pod.uuid
        assert get("203.0.113.1", 8081, timeout=0.5) is None


def test_the_world_sees_the_host_s_address(host: Host) -> None:
    pod = host.pod()
    pod.join("default")
    with inside("/run/netns/world"):
        server = socket.create_server((WORLD, 9000))
    with server:
        with inside(pod.netns):
            client = socket.create_connection((WORLD, 9000), timeout=5)
        with client:
            connection, peer = server.accept()
            connection.close()
    assert peer[0] == "203.0.113.1"


def test_a_port_of_the_host_is_given_once(host: Host) -> None:
    first, second = host.pod(), host.pod()
    first.join("default", ports=((8080, ""),))
    first.serve()
    with pytest.raises(RktError, match=r'error adding network "default": .*8080'):
        second.join("default", ports=((8080, ""),))
    assert get("127.0.0.1", 8080) == first.uuid
    second.join("default", ports=((8082, ""),))
    second.serve()
    assert get("127.0.0.1", 8082) == second.uuid


def test_a_port_that_a_process_of_the_host_has_is_left_to_it(host: Host) -> None:
    pod = host.pod()
    refusal = "host port 8080 is in use by a process of this host"
    for address, family in (("127.0.0.1", socket.AF_INET), ("::", socket.AF_INET6)):
        with socket.create_server((address, 8080), family=family):
            with pytest.raises(RktError, match=refusal):
                pod.join("default", ports=((8080, ""),))
            if family == socket.AF_INET:
                with pytest.raises(RktError, match=refusal):
                    pod.join("default", ports=((8080, address),))
    server = socket.create_server(("127.0.0.1", 8080))
    with server, socket.create_connection(("127.0.0.1", 8080)) as client:
        # Neither another address nor the near end of a connection is the same port.
        pod.join("default", ports=((8080, "203.0.113.1"), (client.getsockname()[1], "")))
        server.accept()[0].close()


def test_the_restricted_network_has_no_way_out(host: Host) -> None:
    pod = host.pod()
    (info,) = pod.join("default-restricted")
    assert str(info.ip4) == "172.31.0.2/16"
    pod.serve()
    assert get("172.31.0.2", 80) == pod.uuid
    with inside(pod.netns), pytest.raises(OSError, match="unreachable"):
        socket.create_connection((WORLD, 9000), timeout=1)


def test_the_talk_s_own_file_works_unchanged(host: Host) -> None:
    text = '{"name":"mynet","type":"bridge","bridge":"net6br0","isGateway":true,'
    text += '"ipam":{"type":"host-local","subnet":"10.10.0.0/16"}}'
    (host.config / "net.d/10-mynet.conf").write_text(text)
    first, second = host.pod(), host.pod()
    # Ports work behind a configuration of the first version of the specification, which has no chains.
    (info,) = first.join("mynet", ports=((8080, ""),))
    assert str(info.ip4) == "10.10.0.2/16"
    second.join("mynet")
    first.serve()
    assert get("10.10.0.2", 80) == first.uuid
    assert get("127.0.0.1", 8080) == first.uuid
    with inside(second.netns):
        assert get("10.10.0.2", 80) == first.uuid


def test_both_families_are_there_at_once_and_at_once(host: Host) -> None:
    ranges = [[{"subnet": "10.11.0.0/24"}], [{"subnet": "fd00:11::/64"}]]
    config = {
        "cniVersion": "1.0.0",
        "name": "both",
        "type": "bridge",
        "bridge": "net6br0",
        "isDefaultGateway": True,
        "ipMasq": True,
        "ipam": {"type": "host-local", "ranges": ranges},
    }
    (host.config / "net.d/10-both.conf").write_text(json.dumps(config))
    pod = host.pod()
    (info,) = pod.join("both")
    assert (str(info.ip4), str(info.ip6)) == ("10.11.0.2/24", "fd00:11::2/64")
    pod.serve()
    assert get("10.11.0.2", 80) == pod.uuid
    assert get("fd00:11::2", 80) == pod.uuid


def test_two_networks_two_interfaces(host: Host) -> None:
    pod = host.pod()
    infos = pod.join("default", "default-restricted")
    assert [(each.name, each.if_name) for each in infos] == [
        ("default-restricted", "eth0"),
        ("default", "eth1"),
    ]
    pod.serve()
    assert get("172.31.0.2", 80) == pod.uuid
    assert get("172.16.28.2", 80) == pod.uuid


def test_an_address_can_be_asked_for_once(host: Host) -> None:
    first, second = host.pod(), host.pod()
    assert str(first.join("default:IP=172.16.28.123")[0].ip4) == "172.16.28.123/24"
    with pytest.raises(RktError, match=r"172\.16\.28\.123 is not available"):
        second.join("default:IP=172.16.28.123")
