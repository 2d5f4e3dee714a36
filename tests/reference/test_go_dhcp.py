"""The Go dhcp plugin beside ours: the same answers of a server give the same results."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cni.ipam.dhcp import leases, protocol
from fixtures.dhcp import PLUGIN, Daemon, Dnsmasq, Process
from linux import namespaces

if TYPE_CHECKING:
    from collections.abc import Iterator

GO = "/usr/lib/cni/dhcp"


@pytest.fixture
def netns(root: None) -> Iterator[str]:
    """A namespace whose eth0 is one end of a cable; the other is srv0, 10.77.0.1/24, in the host's."""
    if not os.path.exists(GO):
        pytest.skip("needs the Go plugins (Debian: containernetworking-plugins)")
    own = "/proc/thread-self/ns/net"
    back = os.open(own, os.O_RDONLY | os.O_CLOEXEC)
    namespaces.unshare(namespaces.NEWNET)
    client = os.open(own, os.O_RDONLY | os.O_CLOEXEC)
    path = f"/proc/{os.getpid()}/fd/{client}"
    try:
        namespaces.unshare(namespaces.NEWNET)
        ip("link", "add", "srv0", "type", "veth", "peer", "name", "eth0", "netns", path)
        ip("address", "add", "10.77.0.1/24", "dev", "srv0")
        ip("link", "set", "srv0", "up")
        with namespaces.inside(path):
            ip("link", "set", "eth0", "up")
        yield path
    finally:
        namespaces.setns(back, namespaces.NEWNET)
        os.close(client)
        os.close(back)
        for path in (leases.DIRECTORY, os.path.dirname(protocol.SOCKET)):
            shutil.rmtree(path, ignore_errors=True)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def call(netns: str, program: str, verb: str, **ipam: Any) -> dict[str, Any]:
    text = {"cniVersion": "1.0.0", "name": "net1", "type": "dhcp", "ipam": {"type": "dhcp", **ipam}}
    variables = {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": netns,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": os.path.dirname(program),
        "CNI_ARGS": "K8S_POD_NAME=web",
        "PATH": os.environ["PATH"],
    }
    done = subprocess.run(
        [program], input=json.dumps(text), env=variables, capture_output=True, text=True, check=False
    )
    answer: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
    assert done.returncode == (1 if "code" in answer else 0), done.stderr
    return answer


@pytest.mark.parametrize(
    "options",
    [
        ("--dhcp-option=3,10.77.0.1",),
        ("--dhcp-option=3",),
        ("--dhcp-option=3,10.77.0.1", "--dhcp-option=33,192.168.7.0,10.77.0.9"),
        (
            "--dhcp-option=3,10.77.0.7",
            "--dhcp-option=121,10.88.0.0/16,10.77.0.9,0.0.0.0/0,10.77.0.1,10.99.1.0/24,0.0.0.0",
        ),
    ],
)
def test_results_are_equal(netns: str, tmp_path: Path, options: tuple[str, ...]) -> None:
    # Of the reference's daemon nothing is to be heard; its socket says that it is there.
    theirs = "/run/cni/theirs.sock"
    os.makedirs("/run/cni", mode=0o700)
    wishes = {
        "provide": [{"option": "host-name", "fromArg": "K8S_POD_NAME"}],
        "request": [{"option": "routers"}, {"option": "121"}, {"option": "33"}],
    }
    with (
        Dnsmasq(tmp_path, "srv0", "--dhcp-range=10.77.0.50,10.77.0.50,1h", *options) as server,
        Process(GO, "daemon", "-socketpath", theirs),
    ):
        end = time.monotonic() + 20
        while not os.path.exists(theirs):
            assert time.monotonic() < end
        expected = call(netns, GO, "ADD", **wishes, daemonSocketPath=theirs)
        assert server.comes_to("10.77.0.50")
        assert "web" in server.leases.read_text()
        call(netns, GO, "DEL", **wishes, daemonSocketPath=theirs)
        with Daemon() as daemon:
            # The same client to the server, so the same address, whoever asked first.
            given = call(netns, PLUGIN, "ADD", **wishes)
            assert call(netns, PLUGIN, "CHECK", **wishes) == {}
            assert server.comes_to("10.77.0.50")
            assert "web" in server.leases.read_text()
            assert call(netns, PLUGIN, "DEL", **wishes) == {}
            server.hear("DHCPRELEASE", "10.77.0.50")
            assert server.comes_to()
            daemon.end()
        given.pop("dns", None)
        expected.pop("dns", None)
        for route in expected.get("routes", ()):
            if route.get("gw") == "0.0.0.0":  # newer versions of it mean the same, and can be used
                del route["gw"]
                route["scope"] = 253
        assert given == expected
        # Each side says that the other is another.
        told = call(netns, PLUGIN, "ADD", daemonSocketPath=theirs)
        assert told["code"] == 50
        assert "is not the dhcp daemon of rkt-platform" in told["details"]
