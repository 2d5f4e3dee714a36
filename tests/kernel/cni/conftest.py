"""A host of the test's own: a network namespace to be the host in, containers, and somebody outside."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from cni import config, state
from cni.cache import Attachment, Cache
from cni.runtime import Runtime
from fixtures.ownnetwork import own_namespace
from linux import namespaces

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cni.types.result import Result

# Tells whoever connects, or sends a datagram, the address that it has come from.
SERVER = """
import select, socket, sys
port, greeting = int(sys.argv[1]), sys.argv[2]
tcp, udp = socket.socket(socket.AF_INET6), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
for each in (tcp, udp):
    each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    each.bind(("::", port))
tcp.listen(16)
print("ready", flush=True)
while True:
    readable, _, _ = select.select([tcp, udp, sys.stdin], [], [])
    if sys.stdin in readable:
        break
    if tcp in readable:
        connection, peer = tcp.accept()
        connection.sendall(f"{greeting} {peer[0].removeprefix('::ffff:')}".encode())
        connection.close()
    if udp in readable:
        _, peer = udp.recvfrom(2048)
        udp.sendto(f"{greeting} {peer[0].removeprefix('::ffff:')}".encode(), peer)
"""


class Node:
    """A network namespace with no process in it: a container, or a machine elsewhere."""

    def __init__(self, name: str, stack: ExitStack) -> None:
        self.name = name
        self._stack = stack
        back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            namespaces.unshare(namespaces.NEWNET)
            self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            namespaces.setns(back, namespaces.NEWNET)
        finally:
            os.close(back)
        self.netns = f"/proc/{os.getpid()}/fd/{self.fd}"
        self("ip", "link", "set", "lo", "up")

    def vanish(self) -> None:
        """The container ends, and its namespace with it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __call__(self, *words: str, code: int = 0) -> str:
        """Run a command in the namespace and give its output."""
        with namespaces.inside(self.netns):
            return run(*words, code=code)

    def serve(self, port: int, greeting: str) -> None:
        """A server in the namespace until the test ends."""
        with namespaces.inside(self.netns):
            serve(self._stack, port, greeting)

    def ask(self, address: str, port: int, *, udp: bool = False, timeout: float = 2.0) -> str:
        """What the server there says: its greeting and the address it saw; raises OSError."""
        with namespaces.inside(self.netns):
            return ask(address, port, udp=udp, timeout=timeout)


class Host:
    """The namespace that the test is in, its containers, and the plugins to be called in it."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        self._stack = stack
        self._cache = Cache(str(directory / "cache"))
        self.leases = directory / "leases"
        self.runtime = Runtime((str(directory),), cache=self._cache, environment=os.environ, isolated=False)
        run("ip", "link", "set", "lo", "up")

    def node(self, name: str) -> Node:
        made = Node(name, self._stack)
        self._stack.callback(made.vanish)
        return made

    def outside(self) -> Node:
        """A machine in a network of its own, 192.0.2.0/24 and 2001:db8::/64, whose router this host is."""
        made = self.node("outside")
        run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", made.netns)
        for address in ("192.0.2.1/24", "2001:db8::1/64"):
            run("ip", "address", "add", address, "dev", "up0", *nodad(address))
        run("ip", "link", "set", "up0", "up")
        for address in ("192.0.2.2/24", "2001:db8::2/64"):
            made("ip", "address", "add", address, "dev", "eth0", *nodad(address))
        made("ip", "link", "set", "eth0", "up")
        return made

    def network(self, *plugins: dict[str, Any], name: str = "net1", version: str = "1.1.0") -> Any:
        """A configuration list of these plugins, its leases in the test's own directory."""
        for each in plugins:
            if each.get("ipam", {}).get("type") == "host-local":
                each["ipam"].setdefault("dataDir", str(self.leases))
        text = {"cniVersion": version, "name": name, "plugins": plugins}
        return config.parse_list(json.dumps(text).encode())

    def add(self, network: Any, node: Node, **options: Any) -> Result:
        return self.runtime.add(network, self._attachment(node, **options))

    def check(self, network: Any, node: Node, **options: Any) -> None:
        self.runtime.check(network, self._attachment(node, **options))

    def delete(self, network: Any, node: Node, **options: Any) -> None:
        self.runtime.delete(network, self._attachment(node, **options))

    def serve(self, port: int, greeting: str) -> None:
        serve(self._stack, port, greeting)

    def ask(self, address: str, port: int, *, udp: bool = False, timeout: float = 2.0) -> str:
        """What a server says to the host itself."""
        return ask(address, port, udp=udp, timeout=timeout)

    def left(self) -> dict[str, list[str]]:
        """Everything that an attachment may leave behind."""
        links = [each["ifname"] for each in json.loads(run("ip", "-j", "link")) if each["ifname"] != "lo"]
        records = [f"{plugin} {each.container_id} {each.ifname}" for plugin, each in state.every()]
        leases = [str(each) for each in self.leases.rglob("*") if each.is_file() and "." in each.name]
        return {
            "links": links,
            "tables": run("nft", "list", "tables").splitlines(),
            "records": records,
            "leases": [each for each in leases if "last_reserved" not in each],
        }

    def _attachment(
        self, node: Node, *, ifname: str = "eth0", netns: str | None = None, **more: Any
    ) -> Attachment:
        return Attachment(node.name, ifname, netns=node.netns if netns is None else netns, **more)


NOTHING: dict[str, list[str]] = {"links": [], "tables": [], "records": [], "leases": []}


def run(*words: str, code: int = 0) -> str:
    finished = subprocess.run(words, capture_output=True, text=True, check=False)
    assert finished.returncode == code, f"{words}: {finished.returncode}: {finished.stdout}{finished.stderr}"
    return finished.stdout


def nodad(address: str) -> list[str]:
    return ["nodad"] if ":" in address else []


def serve(stack: ExitStack, port: int, greeting: str) -> None:
    process = stack.enter_context(
        subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", SERVER, str(port), greeting],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stack.callback(process.stdin.close)
    assert process.stdout.readline() == b"ready\n"


def ask(address: str, port: int, *, udp: bool, timeout: float) -> str:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM) as client:
        client.settimeout(timeout)
        client.connect((address, port))
        if udp:
            client.send(b"?")
        return client.recv(200).decode()


@pytest.fixture
def host(root: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setattr(state, "DIRECTORY", str(tmp_path / "run" / "cni"))
    with own_namespace(), ExitStack() as stack:
        yield Host(stack, tmp_path)


@pytest.fixture
def nothing() -> dict[str, list[str]]:
    """What `Host.left` says when nothing is left."""
    return NOTHING


def has_vrf() -> bool:
    from linux.netlink import link
    from linux.netlink.batch import Batch
    from linux.netlink.socket import Socket

    with own_namespace(), Socket() as socket:
        batch = Batch(socket)
        batch.add(link.create_vrf("probe", 7))
        try:
            batch.commit()
        except OSError as failed:
            if failed.errno != errno.EOPNOTSUPP:
                raise
            return False
    return True


@pytest.fixture
def vrf_kind(root: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kind of link that a plugin makes for a vrf: a bridge where the kernel has none, like most here.

    It has ports as well. But it takes none down, as the kernel does with those of a vrf.
    """
    from cni.plugins import vrf
    from linux.netlink import link
    from linux.netlink.batch import Batch

    if has_vrf():
        return "vrf"
    tables: dict[str, int] = {}

    def create(name: str, table: int, *, up: bool = False) -> Any:
        tables[name] = table
        return link.create_bridge(name, up=up)

    def enslave(socket: Any, inside: Any, master: int) -> None:
        batch = Batch(socket)
        batch.add(
            link.change(inside.name, master=master),
            link.change(inside.name, up=False),
            link.change(inside.name, up=True),
        )
        batch.commit()

    monkeypatch.setattr(vrf, "_KIND", "bridge")
    monkeypatch.setattr(vrf, "_enslave", enslave)
    monkeypatch.setattr(link, "create_vrf", create)
    monkeypatch.setattr(link.Link, "vrf_table", property(lambda self: tables.get(self.name, 0)))
    return "bridge"
