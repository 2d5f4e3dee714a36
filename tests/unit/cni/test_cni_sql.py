"""sql: who gets which address of a PostgreSQL, MariaDB or SQLite database, and at what cost."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from cni import plugin, state
from cni.errors import INVALID_CONFIG, PLUGIN_NOT_AVAILABLE, TRY_AGAIN_LATER
from cni.ipam.sql import databases, leases, schema
from cni.types.address import format_ip
from fixtures.databases import Database, closing
from fixtures.sqlnode import VALID, Node, pod

pytestmark = [pytest.mark.xdist_group("databases"), pytest.mark.usefixtures("short_grace")]


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
