"""A failure at any message to the kernel or any program that is run: rules are all there or none."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cni import plugin, state
from cni.errors import CniError
from cni.request import Request
from fixtures import striking
from fixtures.failing import Failing
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


SAMPLES = 4
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

    def traced(verb: str, *options: str) -> Any:
        """Only the command itself is killed, not what it runs."""
        return striking.traced(argv(verb), "--action", "kill-root", *options)

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
        count = traced(verb)["count"]
        run("gc")
        assert everything(host) == before
        for at in striking.positions(count, SAMPLES):
            if verb == "delete":
                run("add")
            report = traced(verb, "--at", str(at))
            run("gc")
            assert everything(host) == before, (verb, at, report)
