"""Eight callers at once over bridge, portmap and bandwidth: unique addresses, no error, nothing left.

Through plugin processes, as a kubelet or podman calls them, and in the caller's process, as rkt does. Then
the same with every caller killed in the middle of what it does, and with a boot in between.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cni import config, state
from cni.cache import Attachment, Cache
from cni.runtime import Runtime
from fixtures.ownnetwork import own_namespace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    # The fixtures' classes live in conftest.py, which cannot be imported by name.
    Host = Any

EXECUTABLES = Path(__file__).parents[3] / "lib/cni"
CALLERS = 8
LIMITS = {"ingressRate": 10**7, "ingressBurst": 10**6, "egressRate": 10**7, "egressBurst": 10**6}
IN_PROCESS, PROCESSES = "in-process", "processes"


class Node:
    """What all callers share: the network, and where things are kept."""

    def __init__(self, host: Host, directory: Path, subnet: str = "10.22.0.0/16") -> None:
        self.host, self.directory = host, directory
        ipam = {"type": "host-local", "subnet": subnet, "dataDir": str(host.leases)}
        self.plugins: list[dict[str, Any]] = [
            {"type": "bridge", "bridge": "br0", "isGateway": True, "ipMasq": True, "ipam": ipam},
            {"type": "portmap", "capabilities": {"portMappings": True}},
            {"type": "bandwidth", **LIMITS},
        ]
        self.text = {"cniVersion": "1.1.0", "name": "net1", "plugins": self.plugins}
        self.network = config.parse_list(json.dumps(self.text).encode())
        self.runtime = Runtime((), cache=Cache(str(directory / "cache")), isolated=False)

    def call(self, way: str, verb: str, attachment: Attachment) -> str:
        """Run the verb; an ADD's address and the host's interface."""
        if way == PROCESSES:
            return self._by_processes(verb, attachment)
        if verb == "DEL":
            self.runtime.delete(self.network, attachment)
            return ""
        result = self.runtime.add(self.network, attachment).to_json("1.1.0")
        return _shown(result)

    def collect(self, way: str) -> None:
        """GC with nothing valid."""
        if way == IN_PROCESS:
            self.runtime.collect(self.network, ())
            return
        for each in self.plugins:
            self._execute("GC", {**each, "cni.dev/valid-attachments": []}, None)

    def left(self) -> dict[str, Any]:
        found: dict[str, Any] = self.host.left()
        found["cache"] = sorted(path.name for path in (self.directory / "cache").rglob("net1-*"))
        return found

    def _by_processes(self, verb: str, attachment: Attachment) -> str:
        result: Any = None
        for each in self.plugins if verb == "ADD" else reversed(self.plugins):
            request = dict(each)
            if "capabilities" in request:
                request["runtimeConfig"] = dict(attachment.capability_args)
            if result is not None:
                request["prevResult"] = result
            result = self._execute(verb, request, attachment)
        return _shown(result) if verb == "ADD" else ""

    def _execute(self, verb: str, request: dict[str, Any], attachment: Attachment | None) -> Any:
        given = {**request, "cniVersion": "1.1.0", "name": "net1"}
        environment = {"PATH": os.environ["PATH"], "CNI_COMMAND": verb, "CNI_PATH": str(EXECUTABLES)}
        if attachment is not None:
            own = {"CONTAINERID": attachment.container_id, "NETNS": attachment.netns, "IFNAME": "eth0"}
            environment |= {f"CNI_{key}": value for key, value in own.items()}
        done = subprocess.run(
            [EXECUTABLES / request["type"]],
            input=json.dumps(given),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{verb} {request['type']}: {done.stdout}{done.stderr}"
        return json.loads(done.stdout) if done.stdout else None


def _shown(result: dict[str, Any]) -> str:
    ends = [each["name"] for each in result["interfaces"] if each["name"].startswith("veth")]
    return f"{result['ips'][0]['address']} {ends[0]}"


@pytest.fixture
def node(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    # Processes keep their records where everybody does, which is this worker's own /run.
    monkeypatch.setattr(state, "DIRECTORY", "/run/rkt-platform/cni")
    return Node(host, tmp_path)


def _attach(node: Node, way: str, number: int, count: int, tell: Callable[[str], None]) -> None:
    """The life of a caller: all its attachments, then none of them, in another order."""
    attachments = []
    for each in range(count):
        port = {"hostPort": 10000 + number * 1000 + each, "containerPort": 80, "protocol": "tcp"}
        container = node.host.node(f"c{number}-{each}")
        attachments.append(
            Attachment(
                container.name, "eth0", netns=container.netns, capability_args={"portMappings": [port]}
            )
        )
    for each in attachments:
        tell(node.call(way, "ADD", each))
    tell("up")
    for each in attachments[::2] + attachments[1::2]:
        node.call(way, "DEL", each)


@contextmanager
def _callers(node: Node, way: str, count: int) -> Iterator[tuple[list[int], int]]:
    """Processes of as many callers, each the leader of a group of its own, and the pipe they tell into."""
    reading, writing = os.pipe()
    children = []
    for number in range(CALLERS):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.setpgid(0, 0)
                os.close(reading)
                _attach(node, way, number, count, lambda line: os.write(writing, f"{line}\n".encode()))  # type: ignore[arg-type, return-value]
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    os.close(writing)
    try:
        yield children, reading
    finally:
        os.close(reading)


def _at_once(node: Node, way: str, count: int) -> None:
    with _callers(node, way, count) as (children, reading):
        with open(reading, encoding="ascii", closefd=False) as stream:
            lines = stream.read().splitlines()
        statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert statuses == [0] * CALLERS
    told = [line.split() for line in lines if line != "up"]
    assert len(told) == CALLERS * count
    # Addresses are given out in turn, so none comes back in a range as large as this one.
    assert len({address for address, _ in told}) == len({end for _, end in told}) == CALLERS * count
    node.collect(way)
    assert node.left() == {"links": [], "tables": [], "records": [], "leases": [], "cache": []}


@pytest.mark.parametrize("way", [IN_PROCESS, PROCESSES])
def test_eight_callers_of_ten(node: Node, way: str) -> None:
    _at_once(node, way, 10 if way == IN_PROCESS else 5)


@pytest.mark.campaign
@pytest.mark.parametrize("way", [IN_PROCESS, PROCESSES])
def test_eight_callers_of_a_hundred_each(node: Node, way: str) -> None:
    _at_once(node, way, 100)


def _killed(node: Node, way: str, rounds: int) -> None:
    chance = random.Random(int(os.environ.get("RKT_FAULT_OFFSET", "0")))
    for _ in range(rounds):
        with _callers(node, way, 4) as (children, reading):
            # So many lines from now on everybody is somewhere in the middle of something.
            wanted = chance.randrange(1, CALLERS * 5)
            seen = b""
            while seen.count(b"\n") < wanted and (piece := os.read(reading, 200)):
                seen += piece
            for child in children:
                os.killpg(child, signal.SIGKILL)
            for child in children:
                os.waitpid(child, 0)
            while os.read(reading, 4096):  # until the last process that had the pipe is gone
                continue
        node.collect(way)
        assert node.left() == {"links": [], "tables": [], "records": [], "leases": [], "cache": []}


@pytest.mark.parametrize("way", [IN_PROCESS, PROCESSES])
def test_callers_killed_in_the_middle_leave_nothing_that_gc_leaves(node: Node, way: str) -> None:
    _killed(node, way, 2)


@pytest.mark.campaign
@pytest.mark.parametrize("way", [IN_PROCESS, PROCESSES])
def test_callers_killed_at_many_moments(node: Node, way: str) -> None:
    _killed(node, way, 60)


def test_a_boot_frees_all_addresses_and_gc_the_rest(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody ran DEL before the power went. Of the last boot there are files only, which do not count."""
    node = Node(host, tmp_path, "10.22.0.0/29")

    def fill(boot: str) -> list[str]:
        given = []
        for number in range(5):
            container = node.host.node(f"{boot}{number}")
            port = {"hostPort": 8080 + number, "containerPort": 80, "protocol": "tcp"}
            attachment = Attachment(
                container.name, "eth0", netns=container.netns, capability_args={"portMappings": [port]}
            )
            given.append(node.call(IN_PROCESS, "ADD", attachment).split()[0])
        return sorted(given)

    before = fill("a")
    assert len(node.left()["records"]) > 10
    identity = tmp_path / "boot_id"
    identity.write_text("00000000-1111-2222-3333-444444444444\n")
    monkeypatch.setattr(state, "BOOT_ID", str(identity))
    with own_namespace():  # no link, no rule: as after a boot
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        assert node.left()["records"] == []
        assert fill("b") == before
        node.collect(IN_PROCESS)
        assert node.left() == {"links": [], "tables": [], "records": [], "leases": [], "cache": []}
        assert state.damaged() == []
