"""SIGKILL at the k-th system call of joining a network: afterwards it can be left, and nothing is left."""

from __future__ import annotations

import json
import subprocess
import uuid as uuids
from pathlib import Path
from typing import Any

import pytest

from cni import plugins
from fixtures import striking

SAMPLES = 10

# Everything below one directory: what a plugin process of this test keeps is this test's.
SCRIPT = """
import sys
sys.path.insert(0, {source!r})
from cni import state
from cni.ipam import leases
from rkt.network import joining, plan
state.DIRECTORY, leases.DIRECTORY = {top!r} + "/records", {top!r} + "/networks"
plan.REGISTRY, joining.LOCK = {top!r} + "/registry", {top!r} + "/lock/network"
from appc.schema.pod import PodManifest
from rkt import network
manifest = PodManifest.parse({manifest!r})
pod, uuid, netns = {pod!r}, {uuid!r}, {netns!r}
if sys.argv[1] == "setup":
    network.setup(pod, uuid, netns, ("net1",), manifest, {top!r} + "/config", [])
elif sys.argv[1] == "teardown":
    network.teardown(pod, uuid)
else:
    network.reconcile(set(), {top!r} + "/data")
"""


class Case:
    def __init__(self, top: Path, checkout: Path, kind: str) -> None:
        self.top = top
        self.uuid = str(uuids.uuid4())
        self.pod = top / "data/pods/run" / self.uuid
        self.pod.mkdir(parents=True)
        self.netns = Path("/run/netns") / f"cni-{self.uuid}"
        self.netns.parent.mkdir(exist_ok=True)
        self.netns.touch()
        subprocess.run(["unshare", f"--net={self.netns}", "true"], check=True)
        (top / "config/net.d").mkdir(parents=True, exist_ok=True)
        ipam = {"type": "host-local", "subnet": "10.8.0.0/24"}
        config = {"cniVersion": "1.0.0", "name": "net1", "type": kind, "ipMasq": True, "ipam": ipam}
        (top / "config/net.d/10-net1.conf").write_text(json.dumps(config | {"bridge": "killbr0"}))
        app = {"exec": ["/a"], "user": "0", "group": "0"}
        app["ports"] = [{"name": "http", "protocol": "tcp", "port": 80}]  # type: ignore[assignment]
        manifest: dict[str, Any] = {"acVersion": "0.8.11", "acKind": "PodManifest"}
        manifest["apps"] = [{"name": "a", "image": {"id": "sha512-" + "0" * 128}, "app": app}]
        if kind != "host-local":
            manifest["ports"] = [{"name": "http", "hostPort": 8080}]
        self.script = SCRIPT.format(
            source=str(checkout / "src"),
            top=str(top),
            manifest=json.dumps(manifest).encode(),
            pod=str(self.pod),
            uuid=self.uuid,
            netns=str(self.netns),
        )

    def argv(self, verb: str) -> list[str]:
        return ["/usr/bin/python3", "-IS", "-c", self.script, verb]

    def run(self, verb: str) -> None:
        done = subprocess.run(self.argv(verb), capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr

    def traced(self, *options: str) -> Any:
        return striking.traced(self.argv("setup"), *options)

    def end(self) -> None:
        if self.netns.exists():
            subprocess.run(["umount", self.netns], check=True)
            self.netns.unlink()
        if not list(self.netns.parent.iterdir()):
            self.netns.parent.rmdir()

    def left(self) -> list[str]:
        found = []
        for folder in ("records", "networks", "registry"):
            for path in (self.top / folder).rglob("*"):
                if path.is_file() and path.name != "lock" and not path.name.startswith("last_"):
                    found.append(str(path.relative_to(self.top)))
        links = json.loads(subprocess.run(["ip", "-j", "link"], capture_output=True, check=True).stdout)
        found += [link["ifname"] for link in links if link["ifname"] not in ("lo", "killbr0")]
        rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
        # Tables, chains and maps stay; what was in them for an attachment may not.
        return found + [
            line.strip() for line in rules.splitlines() if "10.8.0." in line and "10.8.0.0/" not in line
        ]


def _there(kind: str) -> bool:
    try:
        plugins.load(kind)
        plugins.load("portmap")
    except ImportError:
        return kind == "host-local"
    return True


@pytest.mark.parametrize("action", ["kill-tree", "kill-root"])
@pytest.mark.parametrize("kind", ["host-local", "ptp", "bridge"])
def test_killed_while_joining_nothing_is_left(
    root: None, tmp_path: Path, checkout: Path, kind: str, action: str
) -> None:
    if not _there(kind):
        pytest.skip(f"there is no {kind} yet")
    try:
        counting = Case(tmp_path / "count", checkout, kind)
        count = counting.traced()["count"]
        assert count > 20
        counting.run("teardown")
        counting.end()
        assert counting.left() == []
        for number, at in enumerate(striking.positions(count, SAMPLES)):
            case = Case(tmp_path / f"at-{at}", checkout, kind)
            report = case.traced("--at", str(at), "--action", action)
            # One half is cleaned by its pod's directory, one by gc, which has nothing but /run.
            if number % 2:
                case.run("teardown")
            else:
                case.pod.rename(tmp_path / f"gone-{at}")
            case.run("gc")
            case.end()
            assert case.left() == [], (at, report)
    finally:
        subprocess.run(["ip", "link", "delete", "killbr0"], check=False, stderr=subprocess.DEVNULL)
        for table in subprocess.run(
            ["nft", "list", "tables"], capture_output=True, text=True, check=True
        ).stdout.splitlines():
            subprocess.run(["nft", "delete", *table.split()], check=True)
