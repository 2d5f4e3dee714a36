"""The firewall plugin on a real firewalld: sources of its zones, what a reload forgets, whose they are."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from cni import firewalld as client
from cni import plugin, state
from cni.attachment.reload import reload
from cni.errors import INVALID_CONFIG, PLUGIN_NOT_AVAILABLE, CniError
from cni.request import Request
from fixtures import firewalld
from fixtures.ownnetwork import own_namespace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.needs("nftables", "network-links"),
    pytest.mark.skipif(firewalld.is_missing(), reason="needs firewalld (quickstart --check unpacks it)"),
    pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="needs dbus-daemon (Debian: dbus)"),
]

SOURCES = ["10.22.0.2/32", "fd00:22::2/128"]


@pytest.fixture
def running(root: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """firewalld, in a network namespace of the test's own."""
    monkeypatch.setattr(state, "DIRECTORY", str(tmp_path / "records"))
    with own_namespace():
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        with firewalld.bus(tmp_path), firewalld.firewalld(tmp_path):
            yield


def request(command: str, container: str = "c1", **options: Any) -> Request:
    ips = [{"address": "10.22.0.2/24", "interface": 1}, {"address": "fd00:22::2/64", "interface": 1}]
    interfaces = [{"name": "br0"}, {"name": "eth0", "sandbox": "/run/netns/c1"}]
    result = {"cniVersion": "1.1.0", "interfaces": interfaces, "ips": ips}
    config = {"name": "net1", "cniVersion": "1.1.0", "type": "firewall", "prevResult": result, **options}
    return Request(command, config, container_id=container, ifname="eth0")


def perform(command: str, container: str = "c1", **options: Any) -> None:
    plugin.perform("firewall", request(command, container, **options))


def test_a_containers_addresses_are_sources_of_the_zone(running: None) -> None:
    # firewalld runs, so nobody has to ask for it.
    perform("STATUS")
    perform("ADD")
    assert client.present("trusted", SOURCES) == SOURCES
    perform("CHECK")
    perform("ADD")
    tables = subprocess.check_output(["nft", "list", "tables"], text=True).splitlines()
    assert tables == ["table inet firewalld"]
    client.remove("trusted", SOURCES[1:])
    with pytest.raises(CniError, match="firewall rules of the attachment are missing"):
        perform("CHECK")
    assert reload() == ["net1 c1 eth0: firewall: firewall rules"]
    perform("CHECK")
    assert reload() == []
    for _ in range(2):
        perform("DEL")
    assert client.present("trusted", SOURCES) == []


def test_another_zone_and_one_that_is_not_there(running: None) -> None:
    perform("ADD", firewalldZone="internal")
    assert client.present("internal", SOURCES) == SOURCES
    with pytest.raises(CniError, match="ZONE_CONFLICT") as refused:
        perform("ADD", "c2", firewalldZone="public")
    assert refused.value.code == INVALID_CONFIG
    assert client.present("internal", SOURCES) == SOURCES
    with pytest.raises(CniError, match="INVALID_ZONE"):
        perform("ADD", "c2", firewalldZone="nowhere")
    assert [each.container_id for _, each in state.every()] == ["c1"]
    perform("DEL", firewalldZone="internal")
    assert client.present("internal", SOURCES) == []


def test_what_the_administrator_told_firewalld_stays(running: None) -> None:
    client.add("trusted", SOURCES[:1])
    perform("ADD")
    perform("ADD")
    perform("DEL")
    assert client.present("trusted", SOURCES) == SOURCES[:1]


def test_del_of_what_the_reference_made(running: None) -> None:
    client.add("trusted", SOURCES)
    perform("DEL")
    assert client.present("trusted", SOURCES) == []


def test_our_tables_survive_firewalls_reloads(running: None) -> None:
    perform("ADD", backend="nftables")
    perform("ADD", "c2", backend="firewalld")
    before = subprocess.check_output(["nft", "-s", "list", "table", "inet", "rkt_firewall"])
    service = client._ZONES._replace(interface="org.fedoraproject.FirewallD1")
    with client.Bus() as bus:
        bus.call(service, "reload")
    assert subprocess.check_output(["nft", "-s", "list", "table", "inet", "rkt_firewall"]) == before
    perform("CHECK", backend="nftables")
    # Its own sources it has forgotten.
    assert client.present("trusted", SOURCES) == []
    assert reload() == ["net1 c2 eth0: firewall: firewall rules"]
    assert client.present("trusted", SOURCES) == SOURCES
    perform("DEL", "c2")
    perform("DEL")


def test_del_when_firewalld_has_ended(root: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "DIRECTORY", str(tmp_path / "records"))
    with firewalld.bus(tmp_path):
        with firewalld.firewalld(tmp_path):
            perform("ADD", backend="firewalld")
        with pytest.raises(CniError) as gone:
            perform("CHECK", backend="firewalld")
        assert gone.value.code == PLUGIN_NOT_AVAILABLE
        perform("DEL", backend="firewalld")
        assert list(state.every()) == []
