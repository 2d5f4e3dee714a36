"""rkt cni: what is attached on a node, checked, collected, mended; and our plugins for other runtimes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Rkt
    from fixtures.images import MakeAci

pytestmark = [pytest.mark.usefixtures("root"), pytest.mark.needs("nftables", "network-links")]

CHECKOUT = Path(__file__).parent.parent.parent
CAPABILITIES = json.dumps({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]})


def run(*words: str | Path, **variables: str) -> str:
    done = subprocess.run(
        words, env={**os.environ, **variables}, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Node:
    """Networks in a directory of the test's own, the node's cache, and cnitool as some other runtime."""

    def __init__(self, rkt: Rkt, directory: Path) -> None:
        self.rkt_command = rkt
        self.networks = directory / "net.d"
        self.networks.mkdir()
        self.leases = directory / "leases"
        ipam = {"type": "host-local", "subnet": "10.55.0.0/24", "dataDir": str(self.leases)}
        self.network(
            "net1",
            {"type": "bridge", "bridge": "rktcni0", "ipMasq": True, "isGateway": True, "ipam": ipam},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        )

    def network(self, name: str, *plugins: dict[str, Any], version: str = "1.1.0") -> None:
        text = json.dumps({"cniVersion": version, "name": name, "plugins": plugins})
        (self.networks / f"{name}.conflist").write_text(text)

    def cnitool(self, *words: str | Path, **variables: str) -> str:
        return run(CHECKOUT / "bin/cnitool", *words, NETCONFPATH=str(self.networks), CNI_PATH="", **variables)

    def rkt(self, *words: str | Path, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {"NETCONFPATH": str(self.networks), "CNI_PATH": "/nonexistent", **variables}
        return self.rkt_command("cni", *words, code=code, environment=environment)

    def json(self, *words: str, code: int = 0) -> Any:
        return json.loads(self.rkt(*words, "--format=json", code=code).stdout)


@pytest.fixture
def node(rkt: Rkt, tmp_path: Path) -> Iterator[Node]:
    had = {name: os.path.exists(f"/var/lib/cni/{name}") for name in ("", "results")}
    yield Node(rkt, tmp_path)
    subprocess.run(["ip", "link", "delete", "rktcni0"], check=False, capture_output=True)
    for name in ("results", ""):
        if not had[name]:
            shutil.rmtree(f"/var/lib/cni/{name}", ignore_errors=True)


def test_list_and_inspect_show_what_another_runtime_attached(node: Node, netns: Path) -> None:
    assert node.json("list") == []
    node.cnitool("add", "net1", netns, CAP_ARGS=CAPABILITIES, CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAME=p")

    (found,) = node.json("list")

    assert (found["network"], found["interface"], found["netns"]) == ("net1", "eth0", str(netns))
    assert (found["addresses"], found["alive"]) == (["10.55.0.2/24"], True)
    assert found["plugins"][:2] == ["bridge", "portmap"]
    assert node.json("list", "other") == []
    assert node.rkt("list").stdout.splitlines()[1].split()[-1] == "yes"
    (whole,) = json.loads(node.rkt("inspect", found["container"][:12]).stdout)
    assert whole["records"]["portmap"]["mappings"][0]["hostPort"] == 8080
    assert whole["result"]["ips"][0]["address"] == "10.55.0.2/24"
    assert whole["configuration"]["name"] == "net1"
    assert ["K8S_POD_NAME", "p"] in whole["args"]
    assert "not attached" in node.rkt("inspect", "nobody", code=254).stderr
    assert node.rkt("list", "--format={container}").stdout.strip() == found["container"]
    node.cnitool("del", "net1", netns, CAP_ARGS=CAPABILITIES)
    assert node.json("list") == []


def test_check_sees_damage_and_reload_mends_what_a_flush_took(node: Node, netns: Path) -> None:
    node.cnitool("add", "net1", netns, CAP_ARGS=CAPABILITIES)
    (fine,) = node.json("check")
    assert (fine["status"], fine["problem"]) == ("ok", "")
    run("nft", "flush", "ruleset")
    (damaged,) = node.json("check", code=254)
    assert damaged["status"] == "damaged"
    assert damaged["problem"]
    restored = node.rkt("reload").stdout.splitlines()
    assert [line.partition(": ")[2] for line in restored] == ["bridge: masquerade", "portmap: port mappings"]
    assert node.json("check")[0]["status"] == "ok"
    assert node.rkt("reload").stdout == ""
    node.cnitool("del", "net1", netns, CAP_ARGS=CAPABILITIES)


def test_a_network_too_old_for_check_is_no_failure(node: Node) -> None:
    node.network("old", {"type": "debug"}, version="0.3.1")
    node.cnitool("add", "old", "/proc/self/ns/../ns/net", CNI_NETNS_OVERRIDE="1")
    (row,) = node.json("check")
    assert row["status"] == "unknown"
    node.cnitool("del", "old", "/proc/self/ns/../ns/net", CNI_NETNS_OVERRIDE="1")


def test_gc_collects_those_whose_namespaces_are_gone_and_no_others(
    node: Node, netns: Path, tmp_path: Path
) -> None:
    node.cnitool("add", "net1", netns)
    gone, pin = tmp_path / "gone", tmp_path / "pin"
    gone.touch()
    run("unshare", f"--net={gone}", "true")
    node.cnitool("add", "net1", gone, CAP_ARGS=CAPABILITIES)
    run("umount", gone)
    gone.unlink()
    pin.touch()  # the namespace of another mount namespace looks like this
    node.network("pinned", {"type": "debug"})
    node.cnitool("add", "pinned", pin, CNI_NETNS_OVERRIDE="1")
    try:
        assert sorted(each["alive"] is False for each in node.json("list")) == [False, False, True]
        assert "gone" in {each["status"] for each in node.json("check", code=254)}
        (would,) = node.rkt("gc", "--dry-run").stdout.splitlines()
        assert len(node.json("list")) == 3

        assert node.rkt("gc").stdout.splitlines() == [would]

        assert sorted(each["network"] for each in node.json("list")) == ["net1", "pinned"]
        assert [each["status"] for each in node.json("check") if each["network"] == "net1"] == ["ok"]
        assert "8080" not in run("nft", "list", "ruleset")
        assert sorted(path.name for path in node.leases.rglob("10.*")) == ["10.55.0.2"]
    finally:
        node.cnitool("del", "pinned", pin, CNI_NETNS_OVERRIDE="1")
        node.cnitool("del", "net1", netns)


def test_gc_of_plugins_frees_what_only_they_know_of(node: Node, netns: Path) -> None:
    node.cnitool("add", "net1", netns)
    lost = node.leases / "net1/10.55.0.9"
    lost.write_text("somebody\r\neth0")
    node.rkt("gc")
    assert lost.exists()
    node.rkt("gc", "--plugins")
    assert not lost.exists()
    assert (node.leases / "net1/10.55.0.2").exists()
    assert node.json("check")[0]["status"] == "ok"
    node.cnitool("del", "net1", netns)


def test_doctor_says_what_is_wrong_and_what_mends_it(node: Node) -> None:
    node.network("good", {"type": "debug"})
    node.network("lost", {"type": "nope"})
    node.network("full", {"type": "debug", "fail": {"STATUS": {"code": 50, "msg": "no address left"}}})
    (node.networks / "bad.conflist").write_text("{")
    ipam = '{"type": "host-local"}'
    (node.networks / "old.conf").write_text(f'{{"name": "old", "type": "ptp", "ipam": {ipam}}}')
    results = Path("/var/lib/cni/results")
    results.mkdir(parents=True, exist_ok=True)
    (results / "net1-c9-eth0").write_text("")

    found = node.json("doctor", code=254)

    by_name: dict[str, list[dict[str, str]]] = {}
    for each in found:
        by_name.setdefault(each["name"], []).append(each)
    assert by_name["good"][0]["status"] == "ok"
    assert by_name["default"][0]["status"] == "ok"
    assert "failed to find plugin 'nope'" in by_name["lost"][0]["text"]
    assert "CNI_PATH" in by_name["lost"][0]["remedy"]
    assert "no address left" in by_name["full"][0]["text"]
    assert "no IP ranges specified" in by_name["old"][0]["text"], "of a version before STATUS"
    assert "bad.conflist" in by_name["configuration"][0]["text"]
    assert "net1-c9-eth0" in by_name["cache"][0]["text"]
    text = node.rkt("doctor", code=254).stdout
    assert text.count("to mend: ") == sum(bool(each["remedy"]) for each in found)
    (results / "net1-c9-eth0").unlink()


def test_doctor_knows_what_the_kernel_lacks(node: Node) -> None:
    node.network("sub", {"type": "vlan", "master": "lo", "vlanId": 5, "ipam": {"type": "static"}})
    kinds = subprocess.run(["ip", "link", "add", "v0", "link", "lo", "type", "vlan", "id", "5"], check=False)
    if kinds.returncode == 0:
        run("ip", "link", "delete", "v0")
        pytest.skip("this kernel has vlan links")
    texts = [each["text"] for each in node.json("doctor", code=254) if each["name"] == "sub"]
    assert "this kernel has no vlan links" in texts


def test_install_gives_the_plugins_to_others_and_replaces_nobodys(node: Node, tmp_path: Path) -> None:
    target = tmp_path / "opt/cni/bin"
    target.mkdir(parents=True)
    (target / "bridge").write_text("#!/bin/sh\n")
    refused = node.rkt("install", target, code=254)
    assert "plugins of others are there: bridge" in refused.stderr
    assert "--force" in refused.stderr
    assert [each.name for each in target.iterdir()] == ["bridge"]

    node.rkt("install", "--only=loopback,host-local", target)

    assert sorted(each.name for each in target.iterdir()) == [
        "bridge",
        "host-local",
        "loopback",
        "rkt-platform-cni",
    ]
    spoken = run(target / "loopback", CNI_COMMAND="VERSION")
    assert "1.1.0" in json.loads(spoken)["supportedVersions"]
    assert "no-such" in node.rkt("install", "--only=no-such", target, code=254).stderr
    node.rkt("install", "--force", target)
    node.rkt("install", target)
    assert os.readlink(target / "bridge") == "rkt-platform-cni"
    assert node.rkt("install", "--remove", target).stdout.split() == sorted(
        each.name for each in (CHECKOUT / "lib/cni").iterdir() if each.name != "plugin"
    )
    assert list(target.iterdir()) == []


def test_installed_plugins_serve_a_runtime_that_knows_nothing_of_us(node: Node, tmp_path: Path) -> None:
    """Executables, from a directory with a blank in its name, called as any runtime calls them."""
    target = tmp_path / "plugin dir"
    node.rkt("install", target)
    config = {"cniVersion": "1.0.0", "name": "n", "type": "host-local"}
    ipam = {"type": "host-local", "subnet": "10.66.0.0/24", "dataDir": str(tmp_path / "leases")}
    variables = {
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/nonexistent",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(target),
    }
    for command in ("ADD", "DEL"):
        done = subprocess.run(
            [target / "host-local"],
            input=json.dumps({**config, "ipam": ipam}),
            env={**variables, "CNI_COMMAND": command},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        if command == "ADD":
            assert json.loads(done.stdout)["ips"][0]["address"] == "10.66.0.2/24"


def test_containers_complete(node: Node, netns: Path) -> None:
    node.cnitool("add", "net1", netns)
    words = node.rkt_command("__complete", "cni", "inspect", "").stdout.split()
    assert words[0].startswith("cnitool-")
    node.cnitool("del", "net1", netns)


@pytest.mark.needs("namespaces", "overlay")
def test_pods_are_attachments_too(node: Node, rkt: Rkt, make_aci: MakeAci) -> None:
    image = make_aci(
        ["/bin/sh", "-c", "exec sleep 600"],
        name="example.com/web",
        app={"ports": [{"name": "http", "protocol": "tcp", "port": 80}]},
    )
    run_flags = ("--detach", "--net=default", "--port=http:8081")
    uuid = rkt("--insecure-options=image", "run", *run_flags, image).stdout.strip()
    try:
        (found,) = node.json("list")
        assert (found["network"], found["container"], found["alive"]) == ("default", uuid, True)
        (whole,) = json.loads(node.rkt("inspect", uuid[:8]).stdout)
        assert whole["pod"] is True
        assert [each["status"] for each in node.json("check")] == ["ok"]
        run("nft", "flush", "ruleset")
        assert [each["status"] for each in node.json("check", uuid, code=254)] == ["damaged"]
        node.rkt("reload")
        assert [each["status"] for each in node.json("check", uuid)] == ["ok"]
        node.rkt("gc", "--plugins")
        assert [each["status"] for each in node.json("check")] == ["ok"]
    finally:
        rkt("stop", "--force", uuid, code=None)
    rkt("rm", uuid)
    assert node.json("list") == []
