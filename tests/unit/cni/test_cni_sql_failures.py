"""sql: databases that are away, silent, locked, or break a connection."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from cni.errors import PLUGIN_NOT_AVAILABLE, TRY_AGAIN_LATER
from cni.ipam.sql import databases
from fixtures.databases import Database, Server, closing
from fixtures.sqlnode import Node, ended, exclusive, fork, until

pytestmark = [pytest.mark.xdist_group("databases"), pytest.mark.usefixtures("short_grace")]


def test_a_stopped_server_is_code_11_and_50_and_everything_goes_on_after_it(
    database_server: Server, tmp_path: Path
) -> None:
    database = Database(database_server.kind, database_server, tmp_path)
    node = Node(database, subnet="10.22.0.0/24", timeout=5)
    assert node.call("ADD") == ["10.22.0.2/24"]
    database_server.stop()
    try:
        for command in ("ADD", "DEL", "CHECK", "GC"):
            assert node.refused(command, "b").code == TRY_AGAIN_LATER
        assert node.refused("STATUS").code == PLUGIN_NOT_AVAILABLE
    finally:
        database_server.start()
    node.call("CHECK")
    assert node.call("ADD", "b") == ["10.22.0.3/24"]
    node.call("DEL")
    assert database.held() == ["10.22.0.3"]


def test_a_server_that_stops_in_the_middle_of_a_transaction(database_server: Server, tmp_path: Path) -> None:
    database = Database(database_server.kind, database_server, tmp_path)
    node = Node(database, subnet="10.22.0.0/24", timeout=5)
    node.call("ADD", "first")
    with closing(database_server.connect(database.name)) as other:
        cursor = other.cursor()
        cursor.execute("BEGIN")
        cursor.execute("SELECT name FROM cni_networks FOR UPDATE")
        reading, writing = os.pipe()

        def attempt() -> None:
            os.write(writing, b"%d" % node.refused("ADD").code)

        child = fork(attempt)
        until(lambda: database_server.sessions() == 1)
        database_server.stop()
        assert ended([child]) == [0]
        os.close(writing)
        with open(reading) as file:
            assert file.read() == "11"
        with pytest.MonkeyPatch.context():
            database_server.start()
    assert database.held() == ["10.22.0.2"]
    assert node.call("ADD") == ["10.22.0.3/24"]


def test_a_frozen_server_cannot_hold_us(database_server: Server, tmp_path: Path) -> None:
    database = Database(database_server.kind, database_server, tmp_path)
    node = Node(database, subnet="10.22.0.0/24", timeout=1)
    node.call("ADD")
    with database_server.frozen():
        assert node.refused("DEL").code == TRY_AGAIN_LATER
        assert node.refused("STATUS").code == PLUGIN_NOT_AVAILABLE
    node.ipam["timeout"] = 30
    node.call("DEL")
    assert database.held() == []


def test_whoever_holds_the_lock_for_ever_is_waited_for_not_for_ever(
    database_server: Server, tmp_path: Path
) -> None:
    database = Database(database_server.kind, database_server, tmp_path)
    node = Node(database, subnet="10.22.0.0/24", timeout=1)
    node.call("ADD")
    with closing(database_server.connect(database.name)) as other:
        cursor = other.cursor()
        cursor.execute("BEGIN")
        cursor.execute("SELECT name FROM cni_networks FOR UPDATE")
        assert node.refused("ADD", "b").code == TRY_AGAIN_LATER
    node.ipam["timeout"] = 30
    assert node.call("ADD", "b") == ["10.22.0.3/24"]


def test_a_commit_that_nobody_confirmed(database_server: Server, tmp_path: Path, monkeypatch: Any) -> None:
    """The connection breaks after the server has committed: the second attempt finds the first one's work."""
    database = Database(database_server.kind, database_server, tmp_path)
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
    with closing(exclusive(database)):
        assert node.refused("ADD", "b").code == TRY_AGAIN_LATER
        assert node.refused("STATUS").code == PLUGIN_NOT_AVAILABLE
    assert node.call("ADD", "b") == ["10.22.0.3/24"]
    assert {each.stat().st_mode & 0o777 for each in tmp_path.glob("ipam.sqlite*")} == {0o600}
