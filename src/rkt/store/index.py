"""The index: which image has which name, and what is known about the URLs images came from.

SQLite, write-ahead log, synchronous=FULL. Everything about images in it is read off the files, so a row may
be missing (the next look at the files makes it) or stale (readers check the file), and no reader waits.
"""

from __future__ import annotations

import os

from linux.named_tuple import NamedTuple

try:  # the C half alone: the package around it costs 3 ms of every start
    import _sqlite3 as sqlite
except ImportError:  # pragma: no cover - an interpreter that has another arrangement
    import sqlite3 as sqlite  # type: ignore[no-redef]

from rkt.errors import RktError
from rkt.store.paths import file_mode, make_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

#: rkt's last one was 7, in a database of another kind.
SCHEMA_VERSION = 8
_SCHEMA = """
CREATE TABLE IF NOT EXISTS version (version INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS aciinfo (
    blobkey TEXT PRIMARY KEY, name TEXT NOT NULL, latest INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS aciinfo_name ON aciinfo (name);
CREATE TABLE IF NOT EXISTS remote (
    aciurl TEXT PRIMARY KEY, sigurl TEXT NOT NULL, etag TEXT NOT NULL, blobkey TEXT NOT NULL,
    cachemaxage INTEGER NOT NULL, downloadtime REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS remote_blobkey ON remote (blobkey);
"""
#: Seconds a writer waits for another; readers never wait.
_BUSY_TIMEOUT = 60

Error = sqlite.Error


class Row(NamedTuple):
    """An image as the index knows it. `latest`: it was fetched without a version having been asked for."""

    image_id: str
    name: str
    latest: bool


class Remote(NamedTuple):
    """Where an image was downloaded from. `cache_max_age` in seconds (0: ask again), time since 1970."""

    aci_url: str
    sig_url: str
    etag: str
    image_id: str
    cache_max_age: int
    download_time: float


class Index:
    """The database at `path`, opened at its first use. What cannot be read is as if it were not there."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._database: Any = None

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    # --- images

    def named(self, name: str) -> list[Row]:
        """The images called `name`, as far as the index knows."""
        return self._rows("SELECT blobkey, name, latest FROM aciinfo WHERE name = ?", (name,))

    def all(self) -> dict[str, Row]:
        """All that the index knows, by image ID."""
        rows = self._rows("SELECT blobkey, name, latest FROM aciinfo", ())
        return {row.image_id: row for row in rows}

    def _rows(self, statement: str, values: tuple[str, ...]) -> list[Row]:
        found = self._read(statement, values)
        return [Row(image_id, name, bool(latest)) for image_id, name, latest in found]

    def put(self, rows: Iterable[Row]) -> None:
        """Insert or replace rows, durably. `latest` is not taken back by a row that does not say it."""
        self._write(
            "INSERT INTO aciinfo VALUES (?, ?, ?) ON CONFLICT (blobkey) DO UPDATE"
            " SET name = excluded.name, latest = max(latest, excluded.latest)",
            [(row.image_id, row.name, int(row.latest)) for row in rows],
        )

    def forget(self, image_id: str) -> None:
        """Delete what is known about an image that is gone."""
        self._write("DELETE FROM aciinfo WHERE blobkey = ?", [(image_id,)])
        self._write("DELETE FROM remote WHERE blobkey = ?", [(image_id,)])

    # --- remotes

    def remote(self, aci_url: str) -> Remote | None:
        """What is known about the URL."""
        found = self._read("SELECT * FROM remote WHERE aciurl = ?", (aci_url,))
        return Remote(*found[0]) if found else None

    def put_remote(self, remote: Remote) -> None:
        """Insert or replace what is known about a URL, durably."""
        self._write("INSERT OR REPLACE INTO remote VALUES (?, ?, ?, ?, ?, ?)", [tuple(remote)])

    # --- the whole

    def rebuild(self, rows: Iterable[Row]) -> None:
        """Make the contents exactly `rows`; what is known about URLs stays, as far as it can be read."""
        try:
            self._transaction(lambda database: self._replace(database, rows))
        except Error:
            self.close()
            for suffix in ("", "-wal", "-shm"):
                try:
                    os.rename(self._path + suffix, f"{self._path}.damaged{suffix}")
                except FileNotFoundError:
                    continue
            self._transaction(lambda database: self._replace(database, rows))

    @staticmethod
    def _replace(database: Any, rows: Iterable[Row]) -> None:
        values = [(row.image_id, row.name, int(row.latest)) for row in rows]
        database.execute("DELETE FROM aciinfo")
        database.executemany("INSERT INTO aciinfo VALUES (?, ?, ?)", values)
        database.execute("DELETE FROM remote WHERE blobkey NOT IN (SELECT blobkey FROM aciinfo)")

    def check(self) -> list[str]:
        """What SQLite finds wrong with the file; nothing if it is sound or not there."""
        if not os.path.exists(self._path):
            return []
        try:
            found = self._open().execute("PRAGMA integrity_check(20)").fetchall()
        except Error as error:
            return [str(error)]
        return [text for (text,) in found if text != "ok"]

    def _read(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        """Rows; none when there is no database yet or it cannot be read: the files then have to be asked."""
        if self._database is None and not os.path.exists(self._path):
            return []
        try:
            return self._open().execute(statement, values).fetchall()  # type: ignore[no-any-return]
        except Error:
            return []

    def _write(self, statement: str, values: list[tuple[Any, ...]]) -> None:
        try:
            self._transaction(lambda database: database.executemany(statement, values))
        except Error as error:
            raise RktError(
                f"{self._path}: {error}", hint="if it is damaged, make it anew with `rkt image fsck`"
            ) from error

    def _transaction(self, work: Callable[[Any], object]) -> None:
        database = self._open()
        database.execute("BEGIN IMMEDIATE")
        try:
            work(database)
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise

    def _open(self) -> Any:
        if self._database is not None:
            return self._database
        make_directory(os.path.dirname(self._path))
        if not os.path.exists(self._path):
            # SQLite gives the log beside it the same mode.
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.fchmod(fd, file_mode(os.path.dirname(self._path)))
            os.close(fd)
        database = sqlite.connect(self._path, timeout=_BUSY_TIMEOUT, isolation_level=None)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                self._create(database)
            elif version != SCHEMA_VERSION:
                raise RktError(
                    f"{self._path}: its version is {version}, this rkt writes {SCHEMA_VERSION}",
                    hint="use the rkt that made it, or delete it: `rkt image fsck` makes it anew",
                )
        except BaseException:
            database.close()
            raise
        self._database = database
        return database

    @staticmethod
    def _create(database: Any) -> None:
        database.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";"):
            database.execute(statement)
        if database.execute("SELECT count(*) FROM version").fetchone()[0] == 0:
            database.execute("INSERT INTO version VALUES (?)", (SCHEMA_VERSION,))
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        database.execute("COMMIT")
