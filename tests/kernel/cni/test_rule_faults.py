"""A failure at any message to the kernel or any program that is run: rules are all there or none."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cni import plugin, state
from cni.errors import CniError
from cni.request import Request
from linux import process
from linux.netlink.socket import Socket

if TYPE_CHECKING:
    # The fixtures' classes live in conftest.py, which cannot be imported by name.
    Host = Any

PORTS = [
    {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
    {"hostPort": 8053, "containerPort": 53, "protocol": "udp", "hostIP": "192.0.2.1"},
]
WORDS = {"conditionsV4": ["ip", "saddr", "!=", "192.0.2.7"]}
CASES: dict[str, dict[str, Any]] = {
    "masquerade-iptables": {"type": "bridge", "ipMasq": True, "ipMasqBackend": "iptables"},
    "masquerade": {"type": "bridge", "ipMasq": True},
    "portmap": {"type": "portmap", "runtimeConfig": {"portMappings": PORTS}},
    "portmap-conditions": {"type": "portmap", "runtimeConfig": {"portMappings": PORTS}, **WORDS},
    "portmap-iptables": {
        "type": "portmap",
        "backend": "iptables",
        "runtimeConfig": {"portMappings": PORTS},
    },
    "firewall": {"type": "firewall", "backend": "nftables", "ingressPolicy": "isolated"},
    "firewall-iptables": {"type": "firewall", "backend": "iptables", "ingressPolicy": "isolated"},
}
# The kernel has done it, and the caller does not know; or it has not.
AFTER, BEFORE = True, False


class Failing:
    """Fails the k-th message or program, once, before or after it has had its effect."""

    def __init__(self, at: int, *, after: bool) -> None:
        self.at = at
        self.after = after
        self.count = 0
        self._send = Socket.send
        self._run = process.run

    def send(self, socket: Socket, data: bytes) -> None:
        self._do(lambda: self._send(socket, data))

    def run(self, argv: list[str], **options: Any) -> Any:
        return self._do(lambda: self._run(argv, **options))

    def _do(self, action: Any) -> Any:
        self.count += 1
        if self.count != self.at:
            return action()
        if self.after:
            action()
        raise OSError(errno.ENOBUFS, f"call {self.at} failed on purpose")


def config(name: str, host: Host, **more: Any) -> dict[str, Any]:
    given = {"cniVersion": "1.1.0", "name": "net1", **CASES[name], **more}
    if given["type"] == "bridge":
        ranges = [[{"subnet": "10.22.0.0/24"}], [{"subnet": "fd00:22::/64"}]]
        given["ipam"] = {"type": "host-local", "ranges": ranges, "dataDir": str(host.leases)}
        given |= {"bridge": "br0", "isGateway": True}
    return given


def rules() -> list[str]:
    """What of the attachments there is in any table; the reference's shared chains stay, as they do there."""
    found = subprocess.run(["nft", "-s", "list", "ruleset"], capture_output=True, text=True, check=True)
    mine, table = [], ""
    for line in found.stdout.splitlines():
        table = line if line.startswith("table") else table
        if "rkt_" in table or '"c1"' in line or "10.22.0." in line or "fd00:22:" in line:
            mine.append(f"{table}: {line}")
    return mine


def everything(host: Host) -> dict[str, Any]:
    left: dict[str, Any] = host.left()
    left["tables"] = rules()
    left["ports"] = subprocess.check_output(["bridge", "-d", "link"], text=True)
    left["records"] = [each for each in left["records"] if not each.startswith("bridge ")]
    return left


@pytest.mark.parametrize("after", [BEFORE, AFTER])
@pytest.mark.parametrize("name", [name for name in CASES if name != "masquerade"])
def test_rules_are_all_there_or_none(
    host: Host, monkeypatch: pytest.MonkeyPatch, name: str, after: bool
) -> None:
    if "iptables" in name and shutil.which("iptables-restore") is None:
        pytest.skip("needs iptables")
    node = host.node("c1")
    kind = CASES[name]["type"]
    base = Request("ADD", {}, container_id="c1", netns=node.netns, ifname="eth0")
    given = config(name, host)
    if kind != "bridge":
        plain = config("masquerade-iptables", host, ipMasq=False)
        result = plugin.perform("bridge", base.with_config(plain))
        assert result is not None
        given["prevResult"] = result.to_json("1.1.0")
    request = base.with_config(given)
    before = everything(host)
    for verb in ("ADD", "DEL"):
        for at in range(1, 150):
            if verb == "DEL":
                plugin.perform(kind, request)
            failing = Failing(at, after=after)
            refusal = ""
            with monkeypatch.context() as patched:
                patched.setattr(Socket, "send", lambda socket, data, f=failing: f.send(socket, data))
                patched.setattr(process, "run", failing.run)
                try:
                    plugin.perform(kind, request.with_config(given, command=verb))
                except CniError as failed:
                    refusal = str(failed)
            assert not refusal or "on purpose" in refusal
            done = failing.count < at
            if verb == "DEL" or done or not refusal:
                plugin.perform(kind, request.with_config(given, command="DEL"))
            if kind == "bridge":
                # It stays with DEL; what an ADD that succeeded has made goes with GC.
                plugin.perform(kind, request.with_config(given, command="GC"))
            assert everything(host) == before, (verb, at, refusal)
            if done:
                break
        else:
            pytest.fail("it never succeeded")
        assert at > 3


TRACER = Path(__file__).parents[2] / "faults/tracer.py"
SAMPLES = 4
OFFSET = int(os.environ.get("RKT_FAULT_OFFSET", "0"))
CHAINS = {
    "iptables": ("masquerade-iptables", "firewall-iptables", "portmap-iptables"),
    "nftables": ("masquerade", "firewall", "portmap-conditions"),
}
SCRIPT = """
import json, sys
sys.path.insert(0, {source!r})
from cni import config, state
from cni.cache import Attachment, Cache
from cni.runtime import Runtime
state.DIRECTORY = {records!r}
network = config.parse_list({network!r})
runtime = Runtime(({top!r},), cache=Cache({top!r} + "/cache", durable=False), isolated=False)
if sys.argv[1] == "gc":
    runtime.collect(network, ())
else:
    getattr(runtime, sys.argv[1])(network, Attachment("c1", "eth0", netns={netns!r}))
"""


def traced(argv: list[str], *options: str) -> dict[str, Any]:
    """Run a command, kill it, but not what it runs, at the system call that `options` say."""
    reading, writing = os.pipe()
    nothing = subprocess.DEVNULL
    tracer = subprocess.Popen(
        ["/usr/bin/python3", "-I", str(TRACER), "--action", "kill-root", *options, "--", *argv],
        stdin=nothing,
        stdout=nothing,
        stderr=nothing,
        preexec_fn=lambda: os.dup2(writing, 3),
        pass_fds=(3,),
    )
    os.close(writing)
    with os.fdopen(reading, "rb") as stream, tracer:
        report: dict[str, Any] = json.loads(stream.readline())
    return report


@pytest.mark.parametrize("chain", CHAINS)
def test_after_a_kill_in_the_middle_one_gc_leaves_no_rules(
    host: Host, tmp_path: Path, checkout: Path, chain: str
) -> None:
    if chain == "iptables" and shutil.which("iptables-restore") is None:
        pytest.skip("needs iptables")
    node = host.node("c1")
    plugins = [config(name, host) for name in CHAINS[chain]]
    for each in plugins:
        each.setdefault("capabilities", {})
    network = json.dumps({"cniVersion": "1.1.0", "name": "net1", "plugins": plugins})
    script = SCRIPT.format(
        source=str(checkout / "src"),
        records=state.DIRECTORY,
        network=network.encode(),
        top=str(tmp_path),
        netns=node.netns,
    )

    def argv(verb: str) -> list[str]:
        return ["/usr/bin/python3", "-IS", "-c", script, verb]

    def run(verb: str) -> None:
        done = subprocess.run(argv(verb), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    run("add")
    assert len(rules()) > 5
    run("delete")
    run("gc")
    before = everything(host)
    assert before["tables"] == []
    for verb in ("add", "delete"):
        if verb == "delete":
            run("add")
        count = traced(argv(verb))["count"]
        run("gc")
        assert everything(host) == before
        for number in range(SAMPLES):
            at = 1 + (number * count // SAMPLES + count // SAMPLES // 2 + OFFSET) % count
            if verb == "delete":
                run("add")
            report = traced(argv(verb), "--at", str(at))
            run("gc")
            assert everything(host) == before, (verb, at, report)
