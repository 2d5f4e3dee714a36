"""sql: addresses in a PostgreSQL, a MariaDB and a SQLite database, on several hosts at once."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cni import jsontext, plugin, state
from cni.errors import INVALID_CONFIG, PLUGIN_NOT_AVAILABLE, TRY_AGAIN_LATER, CniError
from cni.fields import Fields
from cni.ipam import deadline
from cni.ipam.sql import databases, leases, schema
from cni.ipam.sql.settings import Settings
from cni.request import Request
from cni.types.address import format_ip
from fixtures.databases import PASSWORD, Database, Server, closing

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.xdist_group("databases")

VALID = "cni.dev/valid-attachments"


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "_GRACE", 0.3)


class Node:
    """A host with one network whose addresses are in a database."""

    def __init__(self, database: Database, name: str = "node1", **ipam: Any) -> None:
        self.database = database
        self.ipam = {"type": "sql", "database": database.config, "node": name, **ipam}
        self.version = "1.1.0"

    def request(self, command: str, container: str = "a", ifname: str = "eth0", **config: Any) -> Request:
        args, netns = config.pop("cni_args", ""), config.pop("netns", None)
        whole = {"cniVersion": self.version, "name": "net1", "type": "x", "ipam": self.ipam, **config}
        return Request(command, whole, container_id=container, ifname=ifname, args=args, netns=netns)

    def call(self, command: str, container: str = "a", ifname: str = "eth0", **config: Any) -> list[str]:
        result = plugin.perform("sql", self.request(command, container, ifname, **config))
        return [] if result is None else [str(each.address) for each in result.ips]

    def refused(self, command: str, container: str = "a", **config: Any) -> CniError:
        with pytest.raises(CniError) as failed:
            self.call(command, container, **config)
        assert PASSWORD not in str(failed.value)
        return failed.value


def pod(name: str) -> str:
    return f"IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={name};K8S_POD_UID=1"


def test_add_check_del(database: Database) -> None:
    node = Node(database, subnet="10.22.0.0/24")
    assert node.call("ADD") == ["10.22.0.2/24"]
    assert node.call("ADD", "b") == ["10.22.0.3/24"]
    assert database.held() == ["10.22.0.2", "10.22.0.3"]
    node.call("CHECK")
    second = node.refused("ADD")
    assert (second.code, second.msg) == (
        INVALID_CONFIG,
        "10.22.0.2 has been allocated to a, duplicate allocation is not allowed",
    )
    node.call("DEL")
    node.call("DEL")
    assert node.refused("CHECK").code == 100
    assert node.call("ADD", "c") == ["10.22.0.4/24"], "an address just given back rests for a while"
    node.call("STATUS")
    node.call("GC", **{VALID: [{"containerID": "c", "ifname": "eth0"}]})
    assert database.held() == ["10.22.0.4"]
    node.call("GC", **{VALID: []})
    assert database.held() == []


def test_del_gc_and_status_before_any_add_make_no_tables(database: Database) -> None:
    node = Node(database, subnet="10.22.0.0/24")
    for command in ("DEL", "GC", "STATUS"):
        node.call(command)
    assert node.refused("CHECK").code == 100
    with pytest.raises(Exception, match="cni_leases"):
        database.held()


def test_one_address_a_set_all_or_nothing(database: Database) -> None:
    node = Node(database, ranges=[[{"subnet": "10.22.0.0/24"}], [{"subnet": "fd00:22::/64"}]])
    node.ipam["routes"] = [{"dst": "0.0.0.0/0"}, {"dst": "::/0", "gw": "fd00:22::9"}]
    node.ipam["dns"] = {"nameservers": ["10.22.0.1"]}
    result = plugin.perform("sql", node.request("ADD"))
    assert result is not None
    assert result.to_json("1.1.0") == {
        "cniVersion": "1.1.0",
        "ips": [
            {"address": "10.22.0.2/24", "gateway": "10.22.0.1"},
            {"address": "fd00:22::2/64", "gateway": "fd00:22::1"},
        ],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0", "gw": "fd00:22::9"}],
        "dns": {"nameservers": ["10.22.0.1"]},
    }
    node.call("CHECK", prevResult=result.to_json("1.1.0"))
    other = {"cniVersion": "1.1.0", "ips": [{"address": "10.22.0.2/24"}, {"address": "fd00:22::77/64"}]}
    assert node.refused("CHECK", prevResult=other).details == "fd00:22::2"
    assert node.call("ADD", "a", "eth1") == ["10.22.0.3/24", "fd00:22::3/64"]

    node.ipam["ranges"] = [[{"subnet": "10.22.0.0/24"}], [{"subnet": "10.23.0.0/30"}]]
    assert node.call("ADD", "b") == ["10.22.0.4/24", "10.23.0.2/30"]
    full = node.refused("ADD", "c")
    assert full.code == TRY_AGAIN_LATER
    assert "range set: 10.23.0.1-10.23.0.2" in full.msg
    assert "10.22.0.5" not in database.held()
    assert node.refused("STATUS").code == PLUGIN_NOT_AVAILABLE
    node.call("DEL", "b")
    node.call("STATUS")
    node.version = "0.2.0"
    assert "more than 1 address per family" in node.refused("ADD", "c").msg


def test_a_range_is_used_to_the_last_address_and_never_the_gateway(database: Database) -> None:
    node = Node(database, subnet="10.22.0.0/28", gateway="10.22.0.5")
    given = [node.call("ADD", f"c{number}")[0] for number in range(13)]
    assert len(set(given)) == 13
    assert "10.22.0.5/28" not in given
    assert node.refused("ADD", "more").code == TRY_AGAIN_LATER
    node.call("DEL", "c7")
    assert node.call("ADD", "again") == [given[7]], "the last address there is needs no rest"
    node.call("DEL", "c1")
    node.call("DEL", "c0")
    node.ipam["gateway"] = given[1].partition("/")[0]
    assert node.call("ADD", "new") == [given[0]]
    assert node.refused("ADD", "more").code == TRY_AGAIN_LATER, "a free row that became the gateway"


def test_addresses_that_rest_come_back_in_order(database: Database) -> None:
    node = Node(database, subnet="10.22.0.0/29", reuseAfter=0)
    assert [node.call("ADD", each) for each in "ab"] == [["10.22.0.2/29"], ["10.22.0.3/29"]]
    node.call("DEL", "b")
    node.call("DEL", "a")
    later = "UPDATE cni_leases SET available_at = available_at - 1 WHERE address = '10.22.0.3'"
    database.query(later)
    assert [node.call("ADD", each) for each in "cde"] == [
        ["10.22.0.3/29"],
        ["10.22.0.2/29"],
        ["10.22.0.4/29"],
    ]


@pytest.mark.parametrize(
    "where",
    [
        {"cni_args": "IP=10.22.0.77"},
        {"args": {"cni": {"ips": ["10.22.0.77"]}}},
        {"runtimeConfig": {"ips": ["10.22.0.77/24"]}},
    ],
)
def test_an_address_can_be_asked_for(tmp_path: Path, where: dict[str, Any]) -> None:
    place = {"subnet": "10.22.0.0/24", "rangeStart": "10.22.0.76", "gateway": "10.22.0.99"}
    node = Node(Database("sqlite", None, tmp_path), **place)
    assert node.call("ADD", "a", **where) == ["10.22.0.77/24"]
    assert "10.22.0.77 is not available" in node.refused("ADD", "b", **where).msg
    assert "is the gateway" in node.refused("ADD", "b", cni_args="IP=10.22.0.99").msg
    assert "all requested IPs: 10.99.0.1" in str(node.refused("ADD", "b", cni_args="IP=10.99.0.1"))
    assert node.call("ADD", "b") == ["10.22.0.76/24"]
    assert node.call("ADD", "c") == ["10.22.0.78/24"], "the search passes over what was asked for"
    assert node.database.held() == ["10.22.0.76", "10.22.0.77", "10.22.0.78"]


def test_two_hosts_share_a_range(database: Database) -> None:
    one = Node(database, "one", subnet="10.22.0.0/24")
    two = Node(database, "two", subnet="10.22.0.0/24")
    # The same container ID on both: cnitool derives it from the path of the namespace.
    assert one.call("ADD") == ["10.22.0.2/24"]
    assert two.call("ADD") == ["10.22.0.3/24"]
    two.call("GC", **{VALID: []})
    assert database.held() == ["10.22.0.2"], "GC frees what is its own node's"
    two.call("DEL")
    one.call("CHECK")
    one.call("DEL")
    assert database.held() == []


def test_a_pod_gets_its_address_again(database: Database) -> None:
    node = Node(database, subnet="10.22.0.0/29", sticky="pod")
    other = Node(database, "node2", subnet="10.22.0.0/29", sticky="pod")
    assert node.call("ADD", "a1", cni_args=pod("web-0")) == ["10.22.0.2/29"]
    assert node.call("ADD", "b1", cni_args=pod("web-1")) == ["10.22.0.3/29"]
    assert database.query("SELECT DISTINCT pod FROM cni_leases ORDER BY pod")[0] == ("default/web-0",)
    node.call("DEL", "a1", cni_args=pod("web-0"))
    assert node.call("ADD", "c1", cni_args=pod("web-2")) == ["10.22.0.4/29"]
    assert other.call("ADD", "a2", cni_args=pod("web-0")) == ["10.22.0.2/29"], "on another host too"
    node.call("DEL", "a1", cni_args=pod("web-0"))  # comes late, and is about another container
    other.call("CHECK", "a2", cni_args=pod("web-0"))
    # A second instance before the first one's DEL gets an address of its own.
    assert node.call("ADD", "a3", cni_args=pod("web-0")) == ["10.22.0.5/29"]
    assert node.call("ADD", "d1") == ["10.22.0.6/29"], "without a name nothing is kept"
    other.call("DEL", "a2")
    assert node.call("ADD", "e1", cni_args=pod("new")) == ["10.22.0.2/29"], "kept as long as there are others"


@pytest.mark.parametrize(
    ("sticky", "config"),
    [
        ("container", {}),
        ("label:role", {"args": {"cni": {"labels": [{"key": "role", "value": "db"}]}}}),
    ],
)
def test_other_keys_to_keep_an_address_by(tmp_path: Path, sticky: str, config: dict[str, Any]) -> None:
    node = Node(Database("sqlite", None, tmp_path), subnet="10.22.0.0/24", sticky=sticky)
    assert node.call("ADD", "a", **config) == ["10.22.0.2/24"]
    node.call("DEL", "a")
    assert node.call("ADD", "b", cni_args="") == ["10.22.0.3/24"]
    assert node.call("ADD", "a", **config) == ["10.22.0.2/24"]


# Nodes, boots


def reboot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str = "1") -> None:
    """Another boot ID, and one that began after everything that has happened so far."""
    other = tmp_path / f"boot_id_{name}"
    other.write_text(f"11111111-2222-3333-4444-55555555555{name}\n")
    monkeypatch.setattr(state, "BOOT_ID", str(other))
    monkeypatch.setattr(time, "clock_gettime", lambda _clock: -10)


def test_leases_of_an_earlier_boot_are_free(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(database, subnet="10.22.0.0/30")
    assert node.call("ADD", "before") == ["10.22.0.2/30"]
    assert node.refused("ADD", "other").code == TRY_AGAIN_LATER
    reboot(tmp_path, monkeypatch)
    node.call("STATUS")
    assert node.call("ADD", "before") == ["10.22.0.2/30"], "no duplicate: it ended with the boot"
    node.call("DEL", "before")
    assert node.call("ADD", "other") == ["10.22.0.2/30"]
    assert database.held() == ["10.22.0.2"]


def test_two_machines_of_one_name_do_not_take_each_other_s_addresses(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(database, "localhost", subnet="10.22.0.0/24")
    node.call("ADD")
    other = tmp_path / "boot_id"
    other.write_text("99999999-2222-3333-4444-555555555555\n")
    monkeypatch.setattr(state, "BOOT_ID", str(other))
    # This boot began long before the other one was seen: both live.
    failed = node.refused("ADD", "b")
    assert failed.code == INVALID_CONFIG
    assert "belongs to another machine" in failed.msg
    assert node.refused("GC", **{VALID: []}).code == INVALID_CONFIG
    node.call("DEL", "b")
    # A later boot, but of a machine with another ID.
    reboot(tmp_path, monkeypatch)
    (tmp_path / "machine-id").write_text("another\n")
    monkeypatch.setattr(leases, "MACHINE_ID", str(tmp_path / "machine-id"))
    database.query("UPDATE cni_nodes SET machine_id = 'first'")
    assert "another machine ID" in node.refused("ADD", "b").msg
    assert database.held() == ["10.22.0.2"]
    database.query("DELETE FROM cni_nodes")  # what the message says to do
    assert node.call("ADD", "b") == ["10.22.0.3/24"]
    assert database.held() == ["10.22.0.3"]


def test_the_lease_of_a_namespace_that_is_gone_is_the_last_to_be_given_out(
    database: Database, tmp_path: Path
) -> None:
    """Its container ended without a DEL. Only its own node can tell, and a path of /proc tells nothing."""
    node, other = (Node(database, name, subnet="10.22.0.0/29") for name in ("node1", "node2"))
    (tmp_path / "netns").touch()
    node.call("ADD", "dead", netns=str(tmp_path / "netns"))
    node.call("ADD", "process", netns="/proc/1234567/ns/net")
    (tmp_path / "netns").unlink()
    assert [node.call("ADD", each) for each in "abc"] == [[f"10.22.0.{n}/29"] for n in (4, 5, 6)]
    assert other.refused("ADD", "d").code == TRY_AGAIN_LATER
    node.call("STATUS")
    assert len(database.held()) == 5
    assert node.call("ADD", "d") == ["10.22.0.2/29"]
    assert node.refused("STATUS").code == PLUGIN_NOT_AVAILABLE
    node.call("DEL", "dead")
    node.call("CHECK", "d")


def test_addresses_of_a_silent_node_are_its_own_unless_configured(database: Database) -> None:
    away, here = Node(database, "away", subnet="10.22.0.0/30"), Node(database, "here", subnet="10.22.0.0/30")
    assert away.call("ADD") == ["10.22.0.2/30"]
    database.query("UPDATE cni_nodes SET seen_at = seen_at - 100000 WHERE name = 'away'")
    assert here.refused("ADD").code == TRY_AGAIN_LATER
    here.ipam["reclaimAfter"] = 200000
    assert here.refused("ADD").code == TRY_AGAIN_LATER
    here.ipam["reclaimAfter"] = 3600
    here.call("STATUS")
    assert here.call("ADD") == ["10.22.0.2/30"]
    away.call("DEL")  # back again: it frees nothing that is not its own any more
    assert database.held() == ["10.22.0.2"]
    assert away.refused("CHECK").code == 100


def test_a_node_is_seen_at_every_call(database: Database) -> None:
    node = Node(database, subnet="10.22.0.0/24")
    node.call("ADD")
    for command in ("ADD", "CHECK", "STATUS", "GC"):
        database.query("UPDATE cni_nodes SET seen_at = 5")
        valid = [{"containerID": "a", "ifname": "eth0"}]
        node.call(command, "b" if command == "ADD" else "a", **{VALID: valid})
        assert database.query("SELECT seen_at FROM cni_nodes")[0][0] > 5, command


# Many at once


def fork(body: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            body()
            code = 0
        finally:
            os._exit(code)
    return child


def ended(children: list[int]) -> list[int]:
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


@pytest.mark.parametrize("each", [6, pytest.param(100, marks=pytest.mark.campaign)])
def test_eight_processes_on_three_hosts_get_different_addresses(database: Database, each: int) -> None:
    ipam = {"subnet": "10.22.0.0/21", "timeout": 60, "reuseAfter": 0}
    nodes = [Node(database, f"node{number}", **ipam) for number in range(3)]

    def churn(worker: int) -> None:
        node = nodes[worker % 3]
        for number in range(each):
            node.call("ADD", f"w{worker}-{number}")
            if number % 3 == 2:
                node.call("DEL", f"w{worker}-{number - 1}")

    # No tables yet: they are made by all at once, too.
    children = [fork(lambda worker=worker: churn(worker)) for worker in range(8)]  # type: ignore[misc]
    assert ended(children) == [0] * 8
    held = database.query("SELECT address, container_id FROM cni_leases WHERE available_at IS NULL")
    assert len(held) == len({address for address, _ in held}) == 8 * (each - each // 3)
    assert len({container for _, container in held}) == len(held)
    assert "10.22.0.1" not in {address for address, _ in held}
    for node in nodes:
        node.call("GC", **{VALID: []})
    assert database.held() == []


def test_the_last_addresses_go_to_those_who_come_first(database: Database) -> None:
    node = Node(database, subnet="10.22.0.0/29", timeout=60)
    reading, writing = os.pipe()

    def attempt(worker: int) -> None:
        try:
            os.write(writing, node.call("ADD", f"w{worker}")[0].encode() + b"\n")
        except CniError as failed:
            os.write(writing, b"%d\n" % failed.code)

    children = [fork(lambda worker=worker: attempt(worker)) for worker in range(8)]  # type: ignore[misc]
    assert ended(children) == [0] * 8
    os.close(writing)
    with open(reading) as file:
        lines = file.read().split()
    assert lines.count("11") == 3
    given = [line for line in lines if line != "11"]
    assert sorted(given) == [f"10.22.0.{number}/29" for number in range(2, 7)]


def kill_at(node: Node, text: str, *, when: str) -> None:
    """ADD in a process that is killed `before` or `after` its statement that begins with `text`."""

    def body() -> None:
        plain = databases.Connection._execute

        def execute(self: Any, sql: str, parameters: Any) -> Any:
            if sql.startswith(text) and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = plain(self, sql, parameters)
            if sql.startswith(text):
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        databases.Connection._execute = execute  # type: ignore[method-assign]
        node.call("ADD")

    assert ended([fork(body)]) == [1]


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("SELECT name FROM cni_networks", "after"),
        ("INSERT INTO cni_leases", "after"),
        ("COMMIT", "before"),
        ("COMMIT", "after"),
    ],
)
def test_killed_in_the_middle_del_and_the_next_add_find_a_whole_world(
    database: Database, text: str, when: str
) -> None:
    node = Node(database, subnet="10.22.0.0/30", timeout=20, reuseAfter=0)
    node.call("ADD", "first")
    node.call("DEL", "first")
    database.query("DELETE FROM cni_leases")
    database.query("UPDATE cni_cursors SET last_given = range_start")
    kill_at(node, text, when=when)
    assert database.held() == (["10.22.0.2"] if (text, when) == ("COMMIT", "after") else [])
    node.call("DEL")
    assert database.held() == []
    assert node.call("ADD", "b") == ["10.22.0.2/30"], "no lock is left, no address is lost"


def test_killed_while_making_the_tables(database: Database) -> None:
    node = Node(database, subnet="10.22.0.0/30", timeout=20)
    kill_at(node, "CREATE TABLE IF NOT EXISTS cni_leases", when="after")
    kill_at(node, "CREATE TABLE IF NOT EXISTS cni_schema", when="after")
    node.call("STATUS")
    assert node.call("ADD") == ["10.22.0.2/30"]


def test_a_plugin_that_is_killed_takes_its_child_along(tmp_path: Path) -> None:
    database = Database("sqlite", None, tmp_path)
    node = Node(database, subnet="10.22.0.0/24", timeout=60)
    node.call("ADD", "first")
    with closing(_exclusive(database)):
        child = fork(lambda: node.call("ADD"))
        _until(lambda: len(_descendants(child)) == 2)
        both = _descendants(child)
        os.kill(child, signal.SIGKILL)
        assert ended([child]) == [-9]
        _until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in both))
    assert database.held() == ["10.22.0.2"]


def _exclusive(database: Database) -> Any:
    import sqlite3

    file = sqlite3.connect(database.path, isolation_level=None)
    file.execute("BEGIN EXCLUSIVE")
    return file


def _descendants(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            children = [int(each) for each in file.read().split()]
    except FileNotFoundError:
        return [pid]
    return [pid, *(inner for each in children for inner in _descendants(each))]


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# A database that is away


@pytest.fixture(params=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


def test_a_stopped_server_is_code_11_and_50_and_everything_goes_on_after_it(
    server: Server, tmp_path: Path
) -> None:
    database = Database(server.kind, server, tmp_path)
    node = Node(database, subnet="10.22.0.0/24", timeout=5)
    assert node.call("ADD") == ["10.22.0.2/24"]
    server.stop()
    try:
        for command in ("ADD", "DEL", "CHECK", "GC"):
            assert node.refused(command, "b").code == TRY_AGAIN_LATER
        assert node.refused("STATUS").code == PLUGIN_NOT_AVAILABLE
    finally:
        server.start()
    node.call("CHECK")
    assert node.call("ADD", "b") == ["10.22.0.3/24"]
    node.call("DEL")
    assert database.held() == ["10.22.0.3"]


def test_a_server_that_stops_in_the_middle_of_a_transaction(server: Server, tmp_path: Path) -> None:
    database = Database(server.kind, server, tmp_path)
    node = Node(database, subnet="10.22.0.0/24", timeout=5)
    node.call("ADD", "first")
    with closing(server.connect(database.name)) as other:
        cursor = other.cursor()
        cursor.execute("BEGIN")
        cursor.execute("SELECT name FROM cni_networks FOR UPDATE")
        reading, writing = os.pipe()

        def attempt() -> None:
            os.write(writing, b"%d" % node.refused("ADD").code)

        child = fork(attempt)
        _until(lambda: server.sessions() == 1)
        server.stop()
        assert ended([child]) == [0]
        os.close(writing)
        with open(reading) as file:
            assert file.read() == "11"
        with pytest.MonkeyPatch.context():
            server.start()
    assert database.held() == ["10.22.0.2"]
    assert node.call("ADD") == ["10.22.0.3/24"]


def test_a_frozen_server_cannot_hold_us(server: Server, tmp_path: Path) -> None:
    database = Database(server.kind, server, tmp_path)
    node = Node(database, subnet="10.22.0.0/24", timeout=1)
    node.call("ADD")
    with server.frozen():
        assert node.refused("DEL").code == TRY_AGAIN_LATER
        assert node.refused("STATUS").code == PLUGIN_NOT_AVAILABLE
    node.ipam["timeout"] = 30
    node.call("DEL")
    assert database.held() == []


def test_whoever_holds_the_lock_for_ever_is_waited_for_not_for_ever(
    server: Server, tmp_path: Path
) -> None:
    database = Database(server.kind, server, tmp_path)
    node = Node(database, subnet="10.22.0.0/24", timeout=1)
    node.call("ADD")
    with closing(server.connect(database.name)) as other:
        cursor = other.cursor()
        cursor.execute("BEGIN")
        cursor.execute("SELECT name FROM cni_networks FOR UPDATE")
        assert node.refused("ADD", "b").code == TRY_AGAIN_LATER
    node.ipam["timeout"] = 30
    assert node.call("ADD", "b") == ["10.22.0.3/24"]


def test_a_commit_that_nobody_confirmed(server: Server, tmp_path: Path, monkeypatch: Any) -> None:
    """The connection breaks after the server has committed: the second attempt finds the first one's work."""
    database = Database(server.kind, server, tmp_path)
    node = Node(database, subnet="10.22.0.0/24")
    node.call("ADD", "first")
    plain = databases.Connection.commit

    def commit(self: databases.Connection) -> None:
        plain(self)
        if not (tmp_path / "broken").exists():
            (tmp_path / "broken").touch()
            raise databases.Failure("connection reset", lost=True)

    monkeypatch.setattr(databases.Connection, "commit", commit)
    assert node.call("ADD") == ["10.22.0.3/24"]
    assert database.held() == ["10.22.0.2", "10.22.0.3"]


def test_a_server_that_says_nothing_or_nonsense(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for kind in ("postgresql", "mysql"):
            config = {"type": kind, "host": "127.0.0.1", "port": silent.getsockname()[1]}
            node = Node(Database("sqlite", None, tmp_path), subnet="10.22.0.0/24", timeout=1)
            node.ipam["database"] = config | {"name": "x", "user": "x"}
            assert node.refused("STATUS").code == PLUGIN_NOT_AVAILABLE


def test_a_locked_sqlite_file_is_code_11(tmp_path: Path) -> None:
    database = Database("sqlite", None, tmp_path)
    node = Node(database, subnet="10.22.0.0/24", timeout=1)
    node.call("ADD")
    with closing(_exclusive(database)):
        assert node.refused("ADD", "b").code == TRY_AGAIN_LATER
        assert node.refused("STATUS").code == PLUGIN_NOT_AVAILABLE
    assert node.call("ADD", "b") == ["10.22.0.3/24"]
    assert {each.stat().st_mode & 0o777 for each in tmp_path.glob("ipam.sqlite*")} == {0o600}


# Rights and secrets


def test_without_the_right_to_make_tables_the_administrator_makes_them(
    server: Server, tmp_path: Path
) -> None:
    database = Database(server.kind, server, tmp_path)
    if server.kind == "postgresql":
        database.query("ALTER SCHEMA public OWNER TO nobody")
        database.query("GRANT USAGE ON SCHEMA public TO cni")
    else:
        database.query(f"REVOKE ALL ON {database.name}.* FROM cni@'%'")
        database.query(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {database.name}.* TO cni@'%'")
    node = Node(database, subnet="10.22.0.0/24")
    refused = node.refused("ADD")
    assert refused.code == INVALID_CONFIG
    assert "docs/reference/sql-ipam.md" in refused.details
    kind = "postgresql" if server.kind == "postgresql" else "mysql"
    for statement in schema.statements(kind):
        database.query(statement)
    if server.kind == "postgresql":
        database.query("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO cni")
    assert node.call("ADD") == ["10.22.0.2/24"]


def test_tables_of_a_later_version_are_left_alone(database: Database) -> None:
    node = Node(database, subnet="10.22.0.0/24")
    node.call("ADD")
    database.query("UPDATE cni_schema SET version = 2")
    for command in ("ADD", "DEL", "STATUS"):
        refused = node.refused(command, "b")
        assert (refused.code, refused.msg) == (
            INVALID_CONFIG,
            "the tables are of version 2, this plugin knows version 1",
        )


def test_a_wrong_password_is_not_shown(server: Server, tmp_path: Path) -> None:
    node = Node(Database(server.kind, server, tmp_path), subnet="10.22.0.0/24")
    secret = tmp_path / "password"
    secret.write_text("hunter2\n")
    secret.chmod(0o600)
    node.ipam["database"] = {**node.ipam["database"], "passwordFile": str(secret)}
    refused = node.refused("ADD")
    assert "hunter2" not in f"{refused}{refused.details}"
    assert refused.code in (INVALID_CONFIG, TRY_AGAIN_LATER)


def test_a_password_file_that_others_may_read_is_refused(postgresql: Server, tmp_path: Path) -> None:
    node = Node(Database("postgresql", postgresql, tmp_path), subnet="10.22.0.0/24")
    secret = tmp_path / "password"
    node.ipam["database"] = {**node.ipam["database"], "passwordFile": str(secret)}
    assert "No such file" in node.refused("ADD").details
    secret.write_text(PASSWORD)
    secret.chmod(0o640)
    refused = node.refused("ADD")
    assert refused.code == INVALID_CONFIG
    assert "mode 0640" in refused.details
    secret.chmod(0o600)
    node.call("ADD")


def test_tls_and_whom_it_believes(server: Server, tmp_path: Path) -> None:
    # A test before may have started it in a network namespace of that test's own.
    server.stop()
    server.start()
    database = Database(server.kind, server, tmp_path)
    node = Node(database, subnet="10.22.0.0/24")
    over_tcp = {"host": "127.0.0.1", "port": server.port, "socket": ""}
    node.ipam["database"] = {**node.ipam["database"], **over_tcp}

    def tls(**settings: str) -> None:
        node.ipam["database"]["tls"] = settings

    node.call("ADD", "on-loopback-none-is-asked-for")
    for mode in ("require", "verify-ca", "verify-full"):
        tls(mode=mode, ca=str(server.authority))
        node.call("ADD", mode)
    tls(mode="verify-full")
    assert "certificate verify failed" in node.refused("ADD", "unknown-authority").details
    tls(mode="verify-full", ca=str(server.authority))
    node.ipam["database"]["host"] = "127.0.0.2"
    refused = node.refused("ADD", "another-name")
    assert refused.code == TRY_AGAIN_LATER
    assert "127.0.0.2" in refused.details
    tls(mode="verify-ca", ca=str(server.authority))
    node.call("ADD", "any-name")
    assert len(database.held()) == 5


GREETINGS = {
    # Protocol 10 with every capability but CLIENT_SSL, and the plugin that sends a password as it is.
    "mysql": b"\x0a5.5.5-10\0" + bytes(4) + b"12345678\0" + b"\xff\xf7\x21\x02\0\xff\xff\x15" + bytes(10)
    + b"123456789012\0mysql_clear_password\0",
    "postgresql": b"",
}


@pytest.mark.parametrize("kind", ["mysql", "postgresql"])
@pytest.mark.parametrize("driver", ["ours", "distribution"])
def test_a_server_that_says_it_has_no_tls_gets_no_password(kind: str, driver: str, tmp_path: Path) -> None:
    """Anybody on the way can say so. PyMySQL of Debian 12 would go on in the clear."""
    (tmp_path / "password").write_text("hunter2")
    (tmp_path / "password").chmod(0o600)
    got = bytearray()

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            if kind == "mysql":
                greeting = GREETINGS["mysql"]
                connection.sendall(len(greeting).to_bytes(3, "little") + b"\0" + greeting)
            else:
                got.extend(connection.recv(8))  # SSLRequest
                connection.sendall(b"N")
            while piece := connection.recv(4096):
                got.extend(piece)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = threading.Thread(target=serve, args=(listener,))
        peer.start()
        node = Node(Database("sqlite", None, tmp_path), subnet="10.22.0.0/24", timeout=5)
        node.ipam["database"] = {
            "type": kind,
            "host": "127.0.0.1",
            "port": listener.getsockname()[1],
            "name": "ipam",
            "user": "cni",
            "passwordFile": str(tmp_path / "password"),
            "tls": {"mode": "require"},
        }
        refused = node.refused("DEL").to_json("1.1.0") if driver == "ours" else launched(node, "DEL", code=1)
        peer.join()
    assert refused["code"] == TRY_AGAIN_LATER
    assert "TLS" in str(refused) or "SSL" in str(refused)
    assert b"hunter2" not in got
    assert b"cni" not in got


# Configurations


@pytest.mark.parametrize(
    ("database", "message"),
    [
        (None, "ipam.database is missing"),
        ("oracle://x/y", "'oracle' is not one of"),
        ("postgresql://cni:secret@db/ipam", "passwordFile"),
        ({"type": "mysql", "host": "db", "name": "x", "user": "y", "password": "secret"}, "passwordFile"),
        ("postgresql://cni@db/ipam?sslmode=verify", "'verify' is not one of disable"),
        ("postgresql://cni@db/ipam?options=x", "unknown parameters options"),
        ("postgresql://cni@db:port/ipam", "is not a URL"),
        ("postgresql://db/ipam", "user is missing"),
        ("postgresql://cni@/ipam", "one of them is needed"),
        ("sqlite://tmp/x", "three slashes"),
        ({"type": "sqlite", "path": "x"}, "not an absolute path"),
        ({"type": "mysql", "host": "db", "name": "x", "user": "y", "tls": {"key": "k"}}, "go together"),
        (7, "not a JSON object"),
    ],
)
def test_a_bad_database_is_refused_with_code_7(tmp_path: Path, database: object, message: str) -> None:
    node = Node(Database("sqlite", None, tmp_path), subnet="10.22.0.0/24")
    node.ipam["database"] = database
    for command in ("ADD", "DEL", "STATUS"):
        refused = node.refused(command)
        assert refused.code == INVALID_CONFIG
        assert message in refused.details
        assert "secret" not in str(refused)


@pytest.mark.parametrize(
    ("ipam", "message"),
    [
        ({"sticky": "name"}, "pod, container, label:KEY"),
        ({"sticky": "label:"}, "pod, container, label:KEY"),
        ({"reclaimAfter": 60}, "idle nodes"),
        ({"timeout": 0}, "between 1 and 300"),
        ({"node": "x\n"}, "no name for a node"),
        ({"subnet": "10.22.0.5/24"}, "host bits"),
        ({"subnet": None}, "no IP ranges"),
    ],
)
def test_a_bad_configuration_is_refused_before_the_database_is_asked(
    tmp_path: Path, ipam: dict[str, Any], message: str
) -> None:
    database = Database("sqlite", None, tmp_path)
    node = Node(database, **{"subnet": "10.22.0.0/24", **ipam})
    refused = node.refused("ADD")
    assert (refused.code, message in refused.details) == (INVALID_CONFIG, True), refused
    assert not database.path.exists()


def test_a_url_and_an_object_say_the_same() -> None:
    def read(database: object) -> Settings:
        return Settings(Fields({"database": database, "passwordFile": "/p"}, "ipam"))

    url = read("postgresql://c%40ni@db.example.com:1234/i?sslmode=verify-ca&sslrootcert=/ca").database
    assert (url.kind, url.host, url.port, url.name, url.user) == (
        "postgresql",
        "db.example.com",
        1234,
        "i",
        "c@ni",
    )
    assert (url.tls.mode, url.tls.ca, url.password_file) == ("verify-ca", "/ca", "/p")
    assert str(url) == "PostgreSQL database i at db.example.com port 1234"
    assert read("mariadb://cni@db/i").database.tls.mode == "verify-full"
    assert read("mysql://cni@127.0.0.1/i").database.tls.mode == "disable"
    assert read("mysql://cni@127.0.0.1.example.com/i").database.tls.mode == "verify-full"
    assert read("mysql://cni@localhost/i?socket=/run/sock").database.socket == "/run/sock"
    assert read("sqlite:///var/x%20y").database.path == "/var/x y"


def test_names_of_any_kind_and_length(database: Database) -> None:
    node = Node(database, subnet="10.22.0.0/24", sticky="pod")
    long = "c" * 3000
    name = "IgnoreUnknown=1;K8S_POD_NAMESPACE=d;K8S_POD_NAME="
    assert node.call("ADD", long, cni_args=name + "x" * 5000) == ["10.22.0.2/24"]
    assert node.call("ADD", "C", "é☃", cni_args=name + "o'brien %s \\ ?") == ["10.22.0.3/24"]
    assert node.call("ADD", "c", "é☃") == ["10.22.0.4/24"], "upper and lower case are two containers"
    assert node.call("ADD", "c", "\udcff", cni_args=name + "\udcff") == ["10.22.0.5/24"], "bytes, not text"
    valid = [{"containerID": long, "ifname": "eth0"}, {"containerID": "C", "ifname": "é☃"}]
    node.call("GC", **{VALID: valid})
    assert database.held() == ["10.22.0.2", "10.22.0.3"]
    node.call("DEL", long)
    node.call("DEL", "C", "é☃")
    assert database.held() == []


def test_the_statements_in_the_documentation_are_those_of_the_plugin(checkout: Path) -> None:
    page = (checkout / "docs/reference/sql-ipam.md").read_text()
    for kind in ("postgresql", "mysql"):
        assert ";\n".join(schema.statements(kind)) + ";\n```" in page
    assert schema.statements("mysql")[-1].endswith(f"VALUES ({schema.VERSION})")


# Cost


def statements_of(node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    plain = databases.Connection._execute
    log = tmp_path / "statements"
    log.write_bytes(b"")

    def execute(self: Any, sql: str, parameters: Any) -> Any:
        with log.open("ab") as file:
            file.write(b".")
        return plain(self, sql, parameters)

    with monkeypatch.context() as patch:
        patch.setattr(databases.Connection, "_execute", execute)
        node.call("ADD", "measured")
    node.call("DEL", "measured")
    return log.stat().st_size


def test_the_number_of_statements_does_not_grow_with_the_leases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database("sqlite", None, tmp_path)
    node = Node(database, subnet="10.0.0.0/12")
    node.call("ADD", "first")
    before = statements_of(node, tmp_path, monkeypatch)
    assert before < 20
    taken = [(0x0A000000 + number).to_bytes(4, "big") for number in range(100, 30100)]
    rows = [(format_ip(each), leases._number(each)) for each in taken]
    import sqlite3

    with closing(sqlite3.connect(database.path)) as file:
        file.executemany(
            "INSERT INTO cni_leases (network, address, number, node, boot_id, container_id, ifname,"
            " leased_at) VALUES ('net1', ?, ?, 'other', 'x', 'y', 'z', 1)",
            rows,
        )
        file.execute("UPDATE cni_cursors SET last_given = ?", (rows[-1][1],))
        file.commit()
        plan = " ".join(
            str(row[3])
            for row in file.execute(
                "EXPLAIN QUERY PLAN SELECT address FROM cni_leases WHERE network = 'net1'"
                " AND available_at IS NOT NULL ORDER BY available_at, number LIMIT 16"
            )
        )
    assert "cni_leases_available" in plan
    assert "TEMP" not in plan
    assert statements_of(node, tmp_path, monkeypatch) <= before + 1


def launched(node: Node, command: str, code: int = 0) -> Any:
    """The plugin as a process of the distribution's interpreter, which has no package directories."""
    checkout = Path(__file__).parents[3]
    if not Path("/usr/lib/python3/dist-packages/psycopg").exists():
        import pymysql

        node.ipam["sitePackages"] = os.path.dirname(os.path.dirname(pymysql.__file__))
    done = subprocess.run(
        [checkout / "lib/cni/sql"],
        input=jsontext.dumps(node.request(command).config),
        env={
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": "a",
            "CNI_NETNS": "/var/run/netns/x",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": "/opt/cni/bin",
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "PGHOST": "nowhere.invalid",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return jsontext.loads(done.stdout) if done.stdout else None


def test_the_launcher_finds_the_driver(database: Database) -> None:
    node = Node(database, subnet="10.22.0.0/24")
    added = launched(node, "ADD")
    assert added["ips"] == [{"address": "10.22.0.2/24", "gateway": "10.22.0.1"}]
    for command in ("CHECK", "DEL", "STATUS"):
        assert launched(node, command) is None
    assert launched(node, "CHECK", code=1)["code"] == 100
    assert database.held() == []


def test_a_driver_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(Database("sqlite", None, tmp_path), subnet="10.22.0.0/24")
    node.ipam["database"] = "mysql://cni@localhost/ipam"
    monkeypatch.setitem(sys.modules, "pymysql", None)
    refused = node.refused("ADD")
    assert refused.code == INVALID_CONFIG
    assert "python3-pymysql" in refused.details
