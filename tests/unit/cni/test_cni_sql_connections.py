"""sql: rights, passwords, TLS, drivers, and how a configuration says where the database is."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from cni import jsontext
from cni.errors import INVALID_CONFIG, TRY_AGAIN_LATER
from cni.fields import Fields
from cni.ipam.sql import schema
from cni.ipam.sql.settings import Settings
from fixtures.databases import PASSWORD, Database, Server
from fixtures.sqlnode import Node

pytestmark = [pytest.mark.xdist_group("databases"), pytest.mark.usefixtures("short_grace")]


# Rights and secrets


def test_without_the_right_to_make_tables_the_administrator_makes_them(
    database_server: Server, tmp_path: Path
) -> None:
    database = Database(database_server.kind, database_server, tmp_path)
    if database_server.kind == "postgresql":
        database.query("ALTER SCHEMA public OWNER TO nobody")
        database.query("GRANT USAGE ON SCHEMA public TO cni")
    else:
        database.query(f"REVOKE ALL ON {database.name}.* FROM cni@'%'")
        database.query(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {database.name}.* TO cni@'%'")
    node = Node(database, subnet="10.22.0.0/24")
    refused = node.refused("ADD")
    assert refused.code == INVALID_CONFIG
    assert "docs/reference/sql-ipam.md" in refused.details
    kind = "postgresql" if database_server.kind == "postgresql" else "mysql"
    for statement in schema.statements(kind):
        database.query(statement)
    if database_server.kind == "postgresql":
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


def test_a_wrong_password_is_not_shown(database_server: Server, tmp_path: Path) -> None:
    node = Node(Database(database_server.kind, database_server, tmp_path), subnet="10.22.0.0/24")
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


def test_tls_and_whom_it_believes(database_server: Server, tmp_path: Path) -> None:
    # A test before may have started it in a network namespace of that test's own.
    database_server.stop()
    database_server.start()
    database = Database(database_server.kind, database_server, tmp_path)
    node = Node(database, subnet="10.22.0.0/24")
    over_tcp = {"host": "127.0.0.1", "port": database_server.port, "socket": ""}
    node.ipam["database"] = {**node.ipam["database"], **over_tcp}

    def tls(**settings: str) -> None:
        node.ipam["database"]["tls"] = settings

    node.call("ADD", "on-loopback-none-is-asked-for")
    for mode in ("require", "verify-ca", "verify-full"):
        tls(mode=mode, ca=str(database_server.authority))
        node.call("ADD", mode)
    tls(mode="verify-full")
    assert "certificate verify failed" in node.refused("ADD", "unknown-authority").details
    tls(mode="verify-full", ca=str(database_server.authority))
    node.ipam["database"]["host"] = "127.0.0.2"
    refused = node.refused("ADD", "another-name")
    assert refused.code == TRY_AGAIN_LATER
    assert "127.0.0.2" in refused.details
    tls(mode="verify-ca", ca=str(database_server.authority))
    node.call("ADD", "any-name")
    assert len(database.held()) == 5


GREETINGS = {
    # Protocol 10 with every capability but CLIENT_SSL, and the plugin that sends a password as it is.
    "mysql": b"\x0a5.5.5-10\0"
    + bytes(4)
    + b"12345678\0"
    + b"\xff\xf7\x21\x02\0\xff\xff\x15"
    + bytes(10)
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
