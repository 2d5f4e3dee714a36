"""flannel: another plugin does it, in the subnet of subnet.env, and DEL needs no such file any more."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING, Any

import pytest

from cni import plugin, state
from cni.errors import INVALID_CONFIG, PLUGIN_NOT_AVAILABLE, TRY_AGAIN_LATER, CniError
from cni.plugins import flannel
from cni.request import Request

if TYPE_CHECKING:
    from pathlib import Path

    # The fixtures' classes live in conftest.py, which cannot be imported by name.
    Host = Node = Any

ENV = """\
FLANNEL_NETWORK=10.1.0.0/16
FLANNEL_SUBNET=10.1.17.1/24
FLANNEL_MTU=1450
FLANNEL_IPMASQ=true
"""
BOTH = """\
FLANNEL_NETWORK=10.1.0.0/16,10.9.0.0/16
FLANNEL_SUBNET=10.1.17.1/24
FLANNEL_IPV6_NETWORK=fd01::/48
FLANNEL_IPV6_SUBNET=fd01:0:0:17::1/64
FLANNEL_MTU=1450
FLANNEL_IPMASQ=false
"""

# Writes down what it is called with, and answers as the reference plugin's delegates do.
RECORDER = """\
#!/bin/sh
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $(cat)" >> {log}
if [ -e {log}.fail-$CNI_COMMAND ]; then echo '{{"code":7,"msg":"no"}}'; exit 1; fi
if [ "$CNI_COMMAND" = ADD ]; then echo '{{"cniVersion":"1.1.0","ips":[{{"address":"10.1.17.9/24"}}]}}'; fi
"""


@pytest.fixture(autouse=True)
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(flannel, "SUBNET_FILE", str(tmp_path / "subnet.env"))
    monkeypatch.setattr(flannel, "DATA_DIRECTORY", str(tmp_path / "flannel"))
    path = tmp_path / "subnet.env"
    path.write_text(ENV)
    return path


def recorder(directory: Path) -> Path:
    (directory / "bin").mkdir()
    program = directory / "bin/recorder"
    program.write_text(RECORDER.format(log=directory / "calls"))
    program.chmod(0o755)
    return directory / "calls"


def calls(log: Path) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for line in log.read_text().splitlines() if log.exists() else ():
        head, brace, rest = line.partition("{")
        found.append((head.strip(), json.loads(brace + rest)))
    log.write_text("")
    return found


def request(directory: Path, verb: str = "ADD", **options: Any) -> Request:
    config = {"cniVersion": "1.1.0", "name": "net1", "type": "flannel", **options}
    return Request(
        verb,
        config,
        container_id="c1",
        netns="/nowhere",
        ifname="eth0",
        path=[str(directory / "bin")],
        environment={"PATH": os.environ["PATH"]},
    )


def perform(made: Request, verb: str, **more: Any) -> Any:
    return plugin.perform("flannel", made.with_config({**made.config, **more}, command=verb))


def kept(directory: Path) -> list[str]:
    return sorted(each.name for each in (directory / "flannel").glob("*"))


def ipam(host: Host, **more: Any) -> dict[str, Any]:
    return {"type": "host-local", "dataDir": str(host.leases), **more}


def test_a_bridge_in_the_subnet_of_this_host(
    host: Host, nothing: dict[str, list[str]], tmp_path: Path, env: Path
) -> None:
    node, other = host.node("c1"), host.node("c2")
    network = host.network({"type": "flannel", "ipam": ipam(host)})
    result = host.add(network, node).to_json("1.1.0")
    assert [each["name"] for each in result["interfaces"]][0::2] == ["cni0", "eth0"]
    assert result["ips"] == [{"address": "10.1.17.2/24", "gateway": "10.1.17.1", "interface": 2}]
    assert result["routes"] == [{"dst": "10.1.0.0/16"}]
    assert json.loads(node("ip", "-j", "link", "show", "eth0"))[0]["mtu"] == 1450
    assert "table inet rkt-cni" not in host.left()["tables"]
    host.add(network, other)
    node.serve(80, "one")
    assert other.ask("10.1.17.2", 80) == "one 10.1.17.3"
    # The reference plugin's file, that its DEL works from.
    path = tmp_path / "flannel/c1"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == {
        "cniVersion": "1.1.0",
        "ipMasq": False,
        "ipam": {
            "dataDir": str(host.leases),
            "ranges": [[{"subnet": "10.1.17.0/24"}]],
            "routes": [{"dst": "10.1.0.0/16"}],
            "type": "host-local",
        },
        "isGateway": True,
        "mtu": 1450,
        "name": "net1",
        "rkt-platform/ifname": "eth0",
        "type": "bridge",
    }
    host.check(network, node)
    node("ip", "address", "flush", "dev", "eth0")
    with pytest.raises(CniError):
        host.check(network, node)
    env.unlink()
    for _ in range(2):
        host.delete(network, node)
        host.delete(network, other)
    assert {**host.left(), "links": []} == nothing
    assert host.left()["links"] == ["cni0"]
    assert kept(tmp_path) == []


def test_both_families_and_several_networks(host: Host, env: Path, tmp_path: Path) -> None:
    env.write_text(BOTH)
    node = host.node("c1")
    given = ipam(host, routes=[{"dst": "192.0.2.0/24"}])
    network = host.network({"type": "flannel", "delegate": {"type": "ptp"}, "ipam": given})
    result = host.add(network, node).to_json("1.1.0")
    assert [each["address"] for each in result["ips"]] == ["10.1.17.2/24", "fd01:0:0:17::2/64"]
    assert [each["dst"] for each in result["routes"]] == [
        "192.0.2.0/24",
        "10.1.0.0/16",
        "10.9.0.0/16",
        "fd01::/48",
    ]
    config = json.loads((tmp_path / "flannel/c1").read_text())
    assert config["ipMasq"] is True
    assert "isGateway" not in config
    host.delete(network, node)


def test_what_the_other_plugin_is_told(host: Host, tmp_path: Path) -> None:
    log = recorder(tmp_path)
    own = {"type": "recorder", "mtu": 1400, "ipMasq": True, "hairpinMode": True}
    made = request(tmp_path, delegate=own, runtimeConfig={"mac": "02:00:00:00:00:01"}, args={"cni": {}})
    wanted = {
        **own,
        "cniVersion": "1.1.0",
        "name": "net1",
        "runtimeConfig": {"mac": "02:00:00:00:00:01"},
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": "10.1.17.0/24"}]],
            "routes": [{"dst": "10.1.0.0/16"}],
        },
    }
    result = perform(made, "ADD").to_json("1.1.0")
    assert result["ips"] == [{"address": "10.1.17.9/24"}]
    perform(made, "CHECK", prevResult=result)
    perform(made, "STATUS")
    perform(made, "DEL", prevResult=result)
    perform(made, "DEL", prevResult=result)
    assert calls(log) == [
        ("ADD c1 eth0", wanted),
        ("CHECK c1 eth0", {**wanted, "prevResult": result}),
        ("STATUS c1 eth0", wanted),
        ("DEL c1 eth0", {**wanted, "prevResult": result}),
    ]
    with pytest.raises(CniError, match="nothing is known"):
        perform(made, "CHECK")


def test_an_add_that_fails_leaves_nothing_and_a_del_that_fails_can_be_repeated(
    host: Host, nothing: dict[str, list[str]], tmp_path: Path
) -> None:
    log = recorder(tmp_path)
    no_add, no_del = tmp_path / "calls.fail-ADD", tmp_path / "calls.fail-DEL"
    made = request(tmp_path, delegate={"type": "recorder"})
    no_add.touch()
    with pytest.raises(CniError, match="no") as refused:
        perform(made, "ADD")
    assert refused.value.code == 7
    assert [head for head, _ in calls(log)][:2] == ["ADD c1 eth0", "DEL c1 eth0"]
    assert kept(tmp_path) == []
    assert host.left() == nothing
    # When it cannot even be taken back, it is not forgotten.
    no_del.touch()
    with pytest.raises(CniError, match="no"):
        perform(made, "ADD")
    with pytest.raises(CniError, match="no"):
        perform(made, "DEL")
    assert kept(tmp_path) == ["c1"]
    no_add.unlink()
    no_del.unlink()
    calls(log)
    perform(made, "ADD")
    perform(made, "DEL")
    assert [head for head, _ in calls(log)] == ["DEL c1 eth0", "ADD c1 eth0", "DEL c1 eth0"]
    assert kept(tmp_path) == []
    assert host.left() == nothing


def test_two_interfaces_of_a_container(host: Host, tmp_path: Path) -> None:
    """The reference plugin's file has no interface in its name: the second took the first one's."""
    log = recorder(tmp_path)
    one = request(tmp_path, delegate={"type": "recorder"})
    two = request(tmp_path, delegate={"type": "recorder", "mtu": 1200})
    two.ifname = "eth1"
    for made in (one, two):
        perform(made, "ADD")
    assert kept(tmp_path) == ["c1", "c1:eth1"]
    calls(log)
    # A second DEL of one takes nothing of the other.
    perform(two, "DEL")
    perform(two, "DEL")
    assert (kept(tmp_path), len(calls(log))) == (["c1"], 1)
    perform(two, "ADD")
    calls(log)
    # After a reboot only the files are left.
    for made in (one, two):
        state.remove(made, "flannel")
        perform(made, "DEL")
    assert [(head, config["mtu"]) for head, config in calls(log)] == [
        ("DEL c1 eth0", 1450),
        ("DEL c1 eth1", 1200),
    ]
    assert kept(tmp_path) == []


def test_files_of_the_reference_plugin_and_of_other_networks(host: Host, tmp_path: Path) -> None:
    log = recorder(tmp_path)
    made = request(tmp_path)
    (tmp_path / "flannel").mkdir()
    path = tmp_path / "flannel/c1"
    theirs = {"cniVersion": "1.1.0", "name": "net1", "type": "recorder", "ipam": {}}
    path.write_text(json.dumps({**theirs, "name": "net2"}))
    perform(made, "DEL")
    assert path.exists()
    path.write_text("{")
    perform(made, "DEL")
    path.write_text(json.dumps(theirs))
    perform(made, "CHECK")
    perform(made, "DEL")
    assert calls(log) == [("CHECK c1 eth0", theirs), ("DEL c1 eth0", theirs)]
    assert not path.exists()


def test_gc(host: Host, nothing: dict[str, list[str]], tmp_path: Path) -> None:
    log = recorder(tmp_path)
    made = request(tmp_path, delegate={"type": "recorder"})
    for container in ("c1", "c2", "c3"):
        made.container_id = container
        perform(made, "ADD")
    # One of another network, one of before the reboot.
    (tmp_path / "flannel/c9").write_text(json.dumps({"name": "net2", "type": "recorder"}))
    (tmp_path / "flannel/c8").write_text(json.dumps({"name": "net1", "type": "recorder"}))
    calls(log)
    valid = [{"containerID": "c2", "ifname": "eth0"}]
    perform(made, "GC", **{"cni.dev/valid-attachments": valid})
    found = calls(log)
    assert sorted(head.split()[:2] for head, _ in found[:-1]) == [["DEL", "c1"], ["DEL", "c3"]]
    assert found[-1][0].startswith("GC")
    assert found[-1][1]["cni.dev/valid-attachments"] == valid
    assert kept(tmp_path) == ["c2", "c9"]
    perform(made, "GC")
    assert kept(tmp_path) == ["c9"]
    assert host.left() == nothing


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "no such file"),
        ("FLANNEL_NETWORK=10.1.0.0/16\n", "missing FLANNEL_SUBNET, FLANNEL_IPV6_SUBNET, FLANNEL_MTU"),
        (ENV.replace("10.1.17.1/24", "10.1.17.1"), "FLANNEL_SUBNET: .* prefix length"),
        (ENV.replace("1450", "many"), "FLANNEL_MTU"),
        (ENV.replace("MTU=1450", "MTU"), "missing FLANNEL_MTU"),
        ("\udcff", "subnet.env"),
    ],
)
def test_without_a_subnet_add_is_for_later_and_status_says_so(
    host: Host, nothing: dict[str, list[str]], tmp_path: Path, env: Path, text: str | None, says: str
) -> None:
    if text is None:
        env.unlink()
    else:
        env.write_bytes(text.encode(errors="surrogateescape"))
    made = request(tmp_path)
    for verb, code in (("ADD", TRY_AGAIN_LATER), ("STATUS", PLUGIN_NOT_AVAILABLE)):
        with pytest.raises(CniError, match=says) as refused:
            perform(made, verb)
        assert refused.value.code == code
    perform(made, "DEL")
    perform(made, "GC")
    assert host.left() == nothing
    assert kept(tmp_path) == []


@pytest.mark.parametrize(
    "delegate",
    [
        {"name": "x"},
        {"ipam": {}},
        {"type": 5},
        {"type": "../../bin/sh"},
        {"type": ""},
        {"type": "flannel"},
        {"type": "nobody-has-this"},
        [],
    ],
)
def test_a_delegate_that_cannot_be(
    host: Host, nothing: dict[str, list[str]], tmp_path: Path, delegate: Any
) -> None:
    with pytest.raises(CniError) as refused:
        perform(request(tmp_path, delegate=delegate), "ADD")
    assert refused.value.code == INVALID_CONFIG
    assert host.left() == nothing
    assert kept(tmp_path) == []
