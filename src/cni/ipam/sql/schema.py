"""The tables, and how they come into being: by whoever first needs them, under a lock, once.

An operator who does not let the plugin make tables runs `statements` by hand (docs/reference/sql-ipam.md
prints them).
"""

from __future__ import annotations

from cni.errors import INVALID_CONFIG, CniError
from cni.ipam.sql.databases import Failure, integer
from cni.ipam.sql.settings import MYSQL, POSTGRESQL, SQLITE

TYPE_CHECKING = False  # not from typing: start-up time counts here
if TYPE_CHECKING:
    from cni.ipam.sql.databases import Connection

VERSION = 1

# {ascii} and {text} are types that tell upper from lower case and sort by bytes.
_TABLES = (
    """\
CREATE TABLE IF NOT EXISTS cni_nodes (
    name {text:200} NOT NULL PRIMARY KEY,
    machine_id {ascii:64} NOT NULL,
    boot_id {ascii:64} NOT NULL,
    seen_at BIGINT NOT NULL
)""",
    """\
CREATE TABLE IF NOT EXISTS cni_networks (
    name {ascii:200} NOT NULL PRIMARY KEY
)""",
    """\
CREATE TABLE IF NOT EXISTS cni_cursors (
    network {ascii:200} NOT NULL,
    range_start {ascii:32} NOT NULL,
    last_given {ascii:32} NOT NULL,
    PRIMARY KEY (network, range_start)
)""",
    """\
CREATE TABLE IF NOT EXISTS cni_leases (
    network {ascii:200} NOT NULL,
    address {ascii:45} NOT NULL,
    number {ascii:32} NOT NULL,
    node {text:200},
    boot_id {ascii:64},
    container_id {ascii:200},
    ifname {ascii:200},
    netns {text:250},
    pod {text:250},
    sticky_key {ascii:200},
    leased_at BIGINT NOT NULL,
    available_at BIGINT,
    PRIMARY KEY (network, address)
)""",
)
_INDEXES = {
    "cni_leases_number": "(network, number)",
    "cni_leases_owner": "(network, node, container_id, ifname)",
    "cni_leases_available": "(network, available_at, number)",
    "cni_leases_sticky": "(network, sticky_key)",
    "cni_leases_boot": "(node, boot_id)",
}
_VERSIONS = "CREATE TABLE IF NOT EXISTS cni_schema (\n    version INTEGER NOT NULL PRIMARY KEY\n)"
_DONE = "INSERT INTO cni_schema (version) VALUES (1)"  # VERSION


class _Type:
    """A type of the template: ``{ascii:200}`` formats to what a kind of database calls it."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern

    def __format__(self, length: str) -> str:
        return self._pattern.replace("#", length)


_TYPES = {
    POSTGRESQL: (_Type('VARCHAR(#) COLLATE "C"'), _Type('VARCHAR(#) COLLATE "C"')),
    MYSQL: (
        _Type("VARCHAR(#) CHARACTER SET ascii COLLATE ascii_bin"),
        _Type("VARCHAR(#) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"),
    ),
    SQLITE: (_Type("VARCHAR(#)"), _Type("VARCHAR(#)")),
}


def statements(kind: str) -> list[str]:
    """The SQL that makes the tables of this version, in order; the last one says that all others are done."""
    ascii_type, text_type = _TYPES[kind]
    tables = [each.format(ascii=ascii_type, text=text_type) for each in _TABLES]
    if kind == MYSQL:
        inside = "".join(f",\n    INDEX {name} {columns}" for name, columns in _INDEXES.items())
        tables[-1] = tables[-1].removesuffix("\n)") + inside + "\n)"
        return [*(each + " ENGINE = InnoDB" for each in (*tables, _VERSIONS)), _DONE]
    indexes = [
        f"CREATE INDEX IF NOT EXISTS {name} ON cni_leases {columns}" for name, columns in _INDEXES.items()
    ]
    return [*tables, *indexes, _VERSIONS, _DONE]


def exists(connection: Connection) -> bool:
    """Whether the tables are there, asked in a transaction; after False it has to be rolled back.

    Raises CniError 7 when they are of a version that this code does not know.
    """
    try:
        found = connection.run("SELECT version FROM cni_schema")
    except Failure as failure:
        if failure.no_table:
            return False
        raise
    if not found:  # somebody was killed while making them, in a database where each statement is for good
        return False
    version = integer(found[0][0])
    if len(found) > 1 or version != VERSION:
        raise CniError(
            INVALID_CONFIG,
            f"the tables are of version {version}, this plugin knows version {VERSION}",
            "update rkt-platform on this node",
        )
    return True


def create(connection: Connection, database: object) -> None:
    """Make what is missing of the tables. Raises Failure, and CniError 7 without the right to."""
    connection.begin()
    connection.lock_schema()
    *making, done = statements(connection.kind)
    try:
        for each in making:
            connection.run(each)
        if not connection.run("SELECT version FROM cni_schema"):
            connection.run(done)
    except Failure as failure:
        connection.rollback()
        if not failure.refused:
            raise
        raise CniError(
            INVALID_CONFIG,
            f"{database} has no tables of ours, and we may not make them",
            f"{failure}; docs/reference/sql-ipam.md has the statements for its administrator",
        ) from None
    connection.commit()
