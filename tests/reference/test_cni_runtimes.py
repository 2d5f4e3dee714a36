"""Runtimes and plugins of both kinds in every pairing: cnitool and libcni, ours and Debian's Go plugins.

Debian has no Go cnitool; its libcni is driven by the small program in `tests/reference/libcni`.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cni.cli.environment import container_id
from fixtures.ownnetwork import own_namespace

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.usefixtures("root"), pytest.mark.needs("nftables", "network-links")]

CHECKOUT = Path(__file__).parent.parent.parent
PLUGINS = {"ours": CHECKOUT / "lib/cni", "go": Path("/usr/lib/cni")}
LIBCNI_SOURCES = Path("/usr/share/gocode/src/github.com/containernetworking/cni/libcni")
CAPABILITIES = {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}
SERVER = """
import socket
with socket.create_server(("", 80)) as server:
    print("ready", flush=True)
    server.accept()[0].sendall(b"hello")
"""


@pytest.fixture(scope="session")
def libcni(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program on libcni, built from Debian's sources."""
    if shutil.which("go") is None or not LIBCNI_SOURCES.is_dir():
        pytest.skip("needs Debian's golang-go and golang-github-appc-cni-dev")
    directory = tmp_path_factory.mktemp("libcni")
    built = directory / "libcni"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "GO111MODULE": "off",
        "GOPATH": "/usr/share/gocode",
        "GOCACHE": str(directory / "cache"),
        "GOFLAGS": "-modcacherw",
        "CGO_ENABLED": "0",
    }
    source = Path(__file__).parent / "libcni/main.go"
    subprocess.run(["go", "build", "-o", built, source], env=environment, check=True, timeout=300)
    return built


class Node:
    """A host in a network namespace, a container, and a network that any runtime can add it to."""

    def __init__(self, directory: Path, netns: Path, libcni: Path) -> None:
        self.directory, self.netns, self._libcni = directory, netns, libcni
        self.leases = directory / "leases"
        networks = directory / "net.d"
        networks.mkdir()
        ipam = {"type": "host-local", "subnet": "10.22.0.0/24", "dataDir": str(self.leases)}
        ipam["routes"] = [{"dst": "0.0.0.0/0"}]  # type: ignore[assignment]
        bridge = {"type": "bridge", "bridge": "br0", "isGateway": True, "ipMasq": True, "ipam": ipam}
        portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
        network = {"cniVersion": "1.0.0", "name": "net1", "plugins": [bridge, portmap]}
        (networks / "net1.conflist").write_text(json.dumps(network))

    def __call__(self, runtime: str, plugins: str, verb: str, code: int = 0, *, stderr: bool = False) -> str:
        """What the runtime prints for this command."""
        argv = {
            "cnitool": [CHECKOUT / "bin/cnitool", f"--cache-dir={self.directory}/cache", verb, "net1"],
            "libcni": [self._libcni, verb, "net1", container_id(str(self.netns))],
        }[runtime]
        variables = {
            "NETCONFPATH": str(self.directory / "net.d"),
            "CNI_PATH": str(PLUGINS[plugins]),
            "CAP_ARGS": json.dumps(CAPABILITIES),
            "CACHE": str(self.directory / "cache"),
        }
        words = argv if verb == "validate" and runtime == "cnitool" else [*argv, self.netns]
        done = subprocess.run(
            words, env={**os.environ, **variables}, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stderr if stderr else done.stdout

    def check(self, runtime: str, plugins: str) -> None:
        """CHECK, which Debian's Go portmap fails for a container without an IPv6 address."""
        if plugins == "go":
            assert "check" in self(runtime, plugins, "check", code=1, stderr=True)
        else:
            self(runtime, plugins, "check")

    def kept(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in (self.directory / "cache/results").iterdir()]

    def links(self) -> list[str]:
        command = ["nsenter", f"--net={self.netns}", "ip", "-j", "link"]
        found = json.loads(subprocess.check_output(command))
        found += json.loads(subprocess.check_output(["ip", "-j", "link"]))
        return [each["ifname"] for each in found if each["ifname"] not in ("lo", "br0")]

    def answers(self) -> bool:
        """Whether the mapped port leads into the container, from an address of the host."""
        with subprocess.Popen(
            ["nsenter", f"--net={self.netns}", sys.executable, "-c", SERVER], stdout=subprocess.PIPE
        ) as server:
            try:
                assert server.stdout is not None
                assert server.stdout.readline() == b"ready\n"
                with socket.create_connection(("10.22.0.1", 8080), timeout=10) as client:
                    return client.recv(16) == b"hello"
            finally:
                server.kill()


@pytest.fixture
def node(request: pytest.FixtureRequest, netns: Path, tmp_path: Path) -> Iterator[Node]:
    if not (PLUGINS["go"] / "bridge").exists():
        pytest.skip("needs the Go plugins (Debian: containernetworking-plugins)")
    built = Path()
    if "libcni" in str(request.node.callspec.params):
        built = request.getfixturevalue("libcni")
    with own_namespace():
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield Node(tmp_path, netns, built)


@pytest.mark.parametrize("plugins", ["ours", "go"])
@pytest.mark.parametrize("runtime", ["cnitool", "libcni"])
def test_any_runtime_with_any_plugins(node: Node, runtime: str, plugins: str) -> None:
    node(runtime, plugins, "validate")
    result = json.loads(node(runtime, plugins, "add"))
    assert (result["cniVersion"], result["ips"][0]["address"]) == ("1.0.0", "10.22.0.2/24")
    assert [each["name"] for each in result["interfaces"]][::2] == ["br0", "eth0"]
    assert node.answers()
    node.check(runtime, plugins)
    for _ in range(2):
        node(runtime, plugins, "del")
    assert node.links() == []
    assert list(node.leases.rglob("10.*")) == []
    assert node.kept() == []


@pytest.mark.parametrize("plugins", ["ours", "go"])
@pytest.mark.parametrize(("first", "second"), [("cnitool", "libcni"), ("libcni", "cnitool")])
def test_one_runtime_takes_over_from_the_other(node: Node, first: str, second: str, plugins: str) -> None:
    """They share the cache: what one has added the other checks and deletes, with the same prevResult."""
    node(first, plugins, "add")
    (kept,) = node.kept()
    assert (kept["kind"], kept["networkName"], kept["ifName"]) == ("cniCacheV1", "net1", "eth0")
    assert kept["capabilityArgs"] == CAPABILITIES
    node.check(second, plugins)
    node(second, plugins, "del")
    assert node.links() == []
    assert node.kept() == []


@pytest.mark.parametrize("runtime", ["cnitool", "libcni"])
def test_both_make_the_same_of_an_error(node: Node, runtime: str) -> None:
    node(runtime, "ours", "add")
    node(runtime, "ours", "add", code=1)
    node(runtime, "ours", "del")
    assert node.links() == []
