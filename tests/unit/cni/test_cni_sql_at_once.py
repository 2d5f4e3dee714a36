"""sql: many processes at once, and processes that are killed in the middle."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from cni.errors import CniError
from cni.ipam.sql import databases
from fixtures.databases import Database, closing
from fixtures.sqlnode import VALID, Node, descendants, ended, exclusive, fork, until

pytestmark = [pytest.mark.xdist_group("databases"), pytest.mark.usefixtures("short_grace")]


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
    with closing(exclusive(database)):
        child = fork(lambda: node.call("ADD"))
        until(lambda: len(descendants(child)) == 2)
        both = descendants(child)
        os.kill(child, signal.SIGKILL)
        assert ended([child]) == [-9]
        until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in both))
    assert database.held() == ["10.22.0.2"]
