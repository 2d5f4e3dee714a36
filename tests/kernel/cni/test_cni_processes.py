"""Plugin processes: loopback in a real namespace, the order of checks, what a process may not do."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cni.plugins import loopback
from cni.request import Request
from linux.namespaces import inside


def call(
    checkout: Path, plugin: str, command: str, config: dict[str, Any] | str, **variables: str
) -> tuple[int, Any]:
    """Exit status and decoded stdout of one plugin process."""
    environment = {
        "PATH": os.environ["PATH"],
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "c1",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(checkout / "lib/cni"),
        **variables,
    }
    text = (
        config if isinstance(config, str) else json.dumps({"cniVersion": "1.1.0", "name": "net1", **config})
    )
    done = subprocess.run(
        [checkout / "lib/cni" / plugin],
        input=text,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr
    return done.returncode, json.loads(done.stdout) if done.stdout else None


def is_up(netns: Path) -> bool:
    with inside(netns):
        return loopback.is_up()


def test_loopback_comes_up_is_checked_and_goes_down_twice(checkout: Path, netns: Path) -> None:
    with inside(netns):
        loopback.set_up(up=False)
    config = {"type": "loopback"}
    assert (
        call(checkout, "loopback", "CHECK", config, CNI_NETNS=str(netns))[1]["code"] == loopback.LOOPBACK_DOWN
    )
    status, result = call(checkout, "loopback", "ADD", config, CNI_NETNS=str(netns))
    assert status == 0
    assert result == {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "lo", "mac": "00:00:00:00:00:00", "sandbox": str(netns)}],
        "ips": [{"interface": 0, "address": "127.0.0.1/8"}, {"interface": 0, "address": "::1/128"}],
    }
    assert is_up(netns)
    assert call(checkout, "loopback", "CHECK", config, CNI_NETNS=str(netns)) == (0, None)
    for _ in range(2):
        assert call(checkout, "loopback", "DEL", config, CNI_NETNS=str(netns)) == (0, None)
        assert not is_up(netns)
    for missing in ("", "/run/netns/nowhere"):
        assert call(checkout, "loopback", "DEL", config, CNI_NETNS=missing) == (0, None)


def test_loopback_speaks_the_oldest_version_in_its_own_form(checkout: Path, netns: Path) -> None:
    config = {"cniVersion": "0.2.0", "type": "loopback"}
    status, result = call(checkout, "loopback", "ADD", config, CNI_NETNS=str(netns))
    assert status == 0
    assert result == {
        "cniVersion": "0.2.0",
        "ip4": {"ip": "127.0.0.1/8"},
        "ip6": {"ip": "::1/128"},
        "dns": {},
    }


def test_loopback_with_an_address_of_somewhere_else_is_refused(checkout: Path, netns: Path) -> None:
    with inside(netns):
        for words in (("addr", "add", "127.0.0.2/8", "dev", "lo"), ("link", "set", "lo", "up")):
            subprocess.run(["ip", *words], check=True)
    status, result = call(checkout, "loopback", "ADD", {}, CNI_NETNS=str(netns))
    assert (status, len(result["ips"])) == (0, 2)
    with inside(netns):
        subprocess.run(["ip", "addr", "add", "10.0.0.1/8", "dev", "lo"], check=True)
    status, error = call(checkout, "loopback", "ADD", {}, CNI_NETNS=str(netns))
    assert status == 1
    assert error["msg"].endswith("10.0.0.1/8")


def test_loopback_in_a_chain_hands_the_result_on(netns: Path) -> None:
    before = {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": str(netns)}]}
    request = Request("ADD", {"cniVersion": "1.0.0", "prevResult": before}, netns=str(netns))
    assert loopback.add(request).to_json("1.0.0") == before


@pytest.mark.parametrize("plugin", ["loopback", "host-local"])
def test_the_plugin_s_own_namespace_is_refused_first(checkout: Path, root: None, plugin: str) -> None:
    # The reference does all the work first; its 1.1.1 renames the host's links.
    config = {"ipam": {"type": "host-local", "subnet": "10.0.0.0/24", "dataDir": "/nonexistent/dir"}}
    for command in ("ADD", "DEL"):
        status, error = call(checkout, plugin, command, config, CNI_NETNS="/proc/self/ns/net")
        assert (status, error["code"]) == (1, 8)
    assert not Path("/nonexistent").exists()


def test_an_error_is_one_json_object_on_stdout_with_the_version(checkout: Path) -> None:
    status, error = call(checkout, "loopback", "ADD", {"cniVersion": "0.4.0"}, CNI_NETNS="/run/netns/nowhere")
    assert status == 1
    assert error["cniVersion"] == "0.4.0"
    assert error["code"] == 3
    assert call(checkout, "loopback", "ADD", "{", CNI_NETNS="/x")[1]["code"] == 6
    assert call(checkout, "loopback", "NOPE", {})[1]["code"] == 4
    assert call(checkout, "loopback", "ADD", {}, CNI_NETNS="/x", CNI_IFNAME="a/b")[1]["code"] == 4
    assert call(checkout, "loopback", "GC", {"cniVersion": "1.0.0"})[1]["code"] == 1


def test_a_plugin_process_imports_next_to_nothing(checkout: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, 'src'); from cni.plugin import main; code = main('host-local');"
        "print(*sorted(set(sys.modules) & {'json', 're', 'typing', 'enum', 'socket', 'ctypes', 'dataclasses',"
        " 'subprocess', 'contextlib', 'pathlib', 'ipaddress', 'logging', 'argparse'}), file=sys.stderr)"
    )
    environment = {
        "CNI_COMMAND": "DEL",
        "CNI_CONTAINERID": "c1",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/x",
    }
    config = {
        "cniVersion": "1.0.0",
        "name": "n",
        "ipam": {"subnet": "10.0.0.0/24", "dataDir": "/nonexistent"},
    }
    done = subprocess.run(
        ["/usr/bin/python3", "-ISs", "-c", code],
        input=json.dumps(config),
        env=environment,
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""
    assert done.stderr.split() == []
