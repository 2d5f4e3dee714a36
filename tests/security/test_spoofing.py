"""What a pod can make its neighbours and the host believe: routers, ARP and ND, DHCP (S22, R21).

A pod with a user namespace has CAP_NET_RAW in its own network namespace, so it may send whatever frames it
likes. They are sent from its network namespace by root here, who can do no less than an app.
"""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Rkt
    from fixtures.images import MakeAci

pytestmark = [pytest.mark.usefixtures("root")]
IMAGE = "--insecure-options=image"
BRIDGE = "s22br0"

# Sends, from eth0 of its namespace: an advertisement of a router and a prefix, "ADDRESS is at my MAC" for
# each ADDRESS by ARP, neighbour advertisements for GATEWAY's link-local address, and a DHCP offer.
_LIES = """
import fcntl, socket, struct, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
mac = fcntl.ioctl(s, 0x8927, struct.pack("256s", b"eth0"))[18:24]
def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16: total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
eui = bytes((mac[0] ^ 2, *mac[1:3], 0xFF, 0xFE, *mac[3:]))
local = b"\\xfe\\x80" + bytes(6) + eui
everybody = socket.inet_pton(socket.AF_INET6, "ff02::1")
def icmp6(source, body):
    pseudo = source + everybody + struct.pack("!I3xB", len(body), 58)
    body = body[:2] + struct.pack("!H", checksum(pseudo + body)) + body[4:]
    head = struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + source + everybody
    s.send(b"\\x33\\x33\\0\\0\\0\\1" + mac + b"\\x86\\xdd" + head + body)
prefix = socket.inet_pton(socket.AF_INET6, "2001:db8:bad::")
icmp6(local, struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
      + struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 86400, 14400, 0) + prefix + b"\\1\\1" + mac)
for address in sys.argv[1:]:
    ip = socket.inet_aton(address)
    for kind in (1, 2):
        s.send(b"\\xff" * 6 + mac + b"\\x08\\x06" + struct.pack("!HHBBH", 1, 0x800, 6, 4, kind)
               + mac + ip + b"\\xff" * 6 * (kind - 1) + bytes(6) * (2 - kind) + ip)
gateway = b"\\xfe\\x80" + bytes(13) + b"\\1"
icmp6(local, struct.pack("!BBHI", 136, 0, 0, 0xA0000000) + gateway + b"\\2\\1" + mac)
offer = struct.pack("!BBBB", 2, 1, 6, 0) + bytes(232) + b"c\\x82Sc" + b"\\x35\\1\\2\\xff"
udp = struct.pack("!HHHH", 67, 68, 8 + len(offer), 0) + offer
head = struct.pack("!BBHHHBBH4s4s", 69, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(4), b"\\xff" * 4)
head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
s.send(b"\\xff" * 6 + mac + b"\\x08\\0" + head + udp)
print(":".join(f"{byte:02x}" for byte in mac))
"""
# Prints a line, then the source addresses of what arrives at eth0 in half a second of silence.
_LISTEN = """
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind(("eth0", 3))
print("ready", flush=True)
s.settimeout(0.5)
try:
    while True:
        frame, address = s.recvfrom(2048)
        if address[2] != socket.PACKET_OUTGOING:
            print(":".join(f"{byte:02x}" for byte in frame[6:12]), flush=True)
except TimeoutError: pass
"""


class Pod(NamedTuple):
    """A pod that sleeps: its address, and its network namespace."""

    uuid: str
    address: str
    netns: str

    def python(self, program: str, *words: str) -> list[str]:
        return ["nsenter", f"--net={self.netns}", "/usr/bin/python3", "-I", "-c", program, *words]

    def believes(self) -> list[str]:
        """Its addresses, routes and neighbours."""
        return _state("nsenter", f"--net={self.netns}")


def _state(*where: str) -> list[str]:
    found = []
    for words in (("-4", "route"), ("-6", "route"), ("-o", "addr")):
        done = subprocess.run([*where, "ip", *words], capture_output=True, text=True, check=True)
        found += [line for line in done.stdout.splitlines() if "dynamic" not in line or "bad" in line]
    return sorted(found)


def _neighbour(address: str, *where: str) -> str:
    """The hardware address that `address` is believed to have; empty for none."""
    words = [*where, "ip", "-j", "neighbour", "show", address]
    found = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout or "[]")
    return next((entry["lladdr"] for entry in found if "lladdr" in entry), "")


@pytest.fixture
def pods(rkt: Rkt, make_aci: MakeAci) -> Iterator[Callable[..., list[Pod]]]:
    """Starts two pods on a network; the bridge is gone at the end."""
    image = make_aci(["/bin/sleep", "600"], name="example.com/sleeper")

    def start(network: str, *flags: str, **options: object) -> list[Pod]:
        config = {
            "cniVersion": "1.0.0",
            "name": "spoofed",
            "type": "bridge",
            "bridge": BRIDGE,
            "isGateway": True,
            "ipam": {"type": "host-local", "subnet": "10.44.0.0/24"},
            **options,
        }
        if network == "spoofed":
            directory = rkt.directory / "etc/net.d"
            directory.mkdir(exist_ok=True)
            (directory / "spoofed.conf").write_text(json.dumps(config))
        run = (IMAGE, "run", "--detach", f"--net={network}", image, *flags)
        uuids = [rkt(*run).stdout.strip() for _ in range(2)]
        listed = {pod["name"]: pod for pod in json.loads(rkt("list", "--format=json").stdout)}
        return [
            Pod(
                uuid,
                listed[uuid]["networks"][0]["ip"],
                (rkt.directory / "data/pods/run" / uuid / "netns").read_text().strip(),
            )
            for uuid in uuids
        ]

    yield start
    running = [pod["name"] for pod in json.loads(rkt("list", "--format=json").stdout)]
    if running:
        rkt("stop", "--force", *running)
    rkt("gc", "--grace-period=0s")
    subprocess.run(["ip", "link", "delete", BRIDGE], check=False, stderr=subprocess.DEVNULL)


@contextmanager
def _bystander() -> Iterator[tuple[str, ...]]:
    """A namespace on the bridge that believes routers, as the kernel does by default."""
    alive = ["unshare", "--net", "sh", "-c", "echo ready; exec sleep 600"]
    with subprocess.Popen(alive, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            where = ("nsenter", f"--net=/proc/{process.pid}/ns/net")
            for words in (
                ("ip", "link", "add", "s22port", "type", "veth", "peer", "eth0", "netns", str(process.pid)),
                # An address that comes by itself must not look like a change of the host's.
                ("ip", "link", "set", "s22port", "addrgenmode", "none"),
                ("ip", "link", "set", "s22port", "master", BRIDGE, "up"),
                (*where, "ip", "link", "set", "eth0", "up"),
            ):
                subprocess.run(words, check=True)
            yield where
        finally:
            subprocess.run(["ip", "link", "delete", "s22port"], check=False)
            process.kill()


def _lie(liar: Pod, victim: Pod, *addresses: str) -> tuple[str, bool]:
    """Let `liar` send everything; its hardware address, and whether `victim` got any of it."""
    with subprocess.Popen(victim.python(_LISTEN), stdout=subprocess.PIPE, text=True) as listener:
        assert listener.stdout is not None
        assert listener.stdout.readline() == "ready\n"
        told = subprocess.run(
            liar.python(_LIES, *addresses), capture_output=True, text=True, check=True
        ).stdout.strip()
        heard = listener.stdout.read().split()
    return told, told in heard


def _host_ports() -> dict[str, str]:
    """accept_ra of the bridge and of the host's ends of pods."""
    top = Path("/proc/sys/net/ipv6/conf")
    names = [path.name for path in top.iterdir() if path.name.startswith(("veth", BRIDGE))]
    return {name: (top / name / "accept_ra").read_text().strip() for name in names}


def test_s22_on_the_default_network_nobody_hears_a_pods_lies(pods: Callable[..., list[Pod]]) -> None:
    """Each pod has a link of its own to the host (ptp), who believes nothing on it."""
    liar, victim = pods("default")
    gateway = subprocess.run(
        ["nsenter", f"--net={victim.netns}", "ip", "-j", "route", "get", "203.0.113.1"],
        capture_output=True,
        text=True,
        check=True,
    )
    gateway_ip = json.loads(gateway.stdout)[0]["gateway"]
    assert subprocess.run(["busybox", "ping", "-c", "1", victim.address], capture_output=True).returncode == 0
    before = (_state(), victim.believes(), _neighbour(victim.address))
    _, heard = _lie(liar, victim, victim.address, gateway_ip)
    assert not heard
    assert (_state(), victim.believes(), _neighbour(victim.address)) == before
    assert set(_host_ports().values()) == {"0"}
    assert subprocess.run(["busybox", "ping", "-c", "1", victim.address], capture_output=True).returncode == 0


def test_s22_cve_2020_10749_no_pod_of_a_bridge_makes_itself_a_router(
    pods: Callable[..., list[Pod]],
) -> None:
    """Pods on one bridge hear each other; a bystander without our settings shows that the lie is good."""
    liar, victim = pods("spoofed")
    with _bystander() as where:
        before = (_state(), victim.believes())
        deadline = time.monotonic() + 10
        while "2001:db8:bad::/64" not in "\n".join(_state(*where)):
            assert time.monotonic() < deadline, "the advertisement has no effect on anybody"
            _, heard = _lie(liar, victim)
            assert heard
        assert (_state(), victim.believes()) == before
    assert set(_host_ports().values()) == {"0"}


def test_s22_isolated_ports_of_a_bridge_do_not_hear_each_other(pods: Callable[..., list[Pod]]) -> None:
    liar, victim = pods("spoofed", portIsolation=True)
    before = victim.believes()
    _, heard = _lie(liar, victim, victim.address, "10.44.0.1")
    assert not heard
    assert victim.believes() == before


def test_s22_a_guarded_port_sends_from_no_other_hardware_address(pods: Callable[..., list[Pod]]) -> None:
    liar, victim = pods("spoofed", macspoofchk=True)
    words = ["nsenter", f"--net={liar.netns}", "ip", "link", "set", "eth0", "address", "02:00:00:00:00:09"]
    subprocess.run(words, check=True)
    assert _lie(liar, victim, victim.address) == ("02:00:00:00:00:09", False)


@pytest.mark.parametrize(
    ("flags", "code"), [((), 0), (("--caps-remove=CAP_NET_RAW",), 1), (("--user=1000", "--group=1000"), 1)]
)
def test_s22_without_the_capability_an_app_sends_no_frames(
    rkt: Rkt, pods: Callable[..., list[Pod]], flags: tuple[str, ...], code: int
) -> None:
    """What to take away from an app on a bridge that it shares with others."""
    liar, victim = pods("spoofed", *flags)
    command = ("/bin/busybox", "arping", "-c", "1", "-I", "eth0", victim.address)
    done = rkt("enter", liar.uuid, *command, code=code)
    assert ("Operation not permitted" in done.stderr) == bool(code)
