"""Connections to the three kinds of database, alike in what the plugin needs of them.

SQL is written once, with ``%s`` for parameters and ``FOR UPDATE`` for locks; what a kind has no words for is
left out here. One connection serves one call and ends with it. All times are the server's, in seconds since
1970.
"""

from __future__ import annotations

import os

from cni.errors import INVALID_CONFIG, TRY_AGAIN_LATER, CniError
from cni.ipam import secretfile
from cni.ipam.sql.settings import MYSQL, POSTGRESQL, SQLITE

TYPE_CHECKING = False  # not from typing: start-up time counts here
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType
    from typing import Any

    from cni.ipam.sql.settings import Database, Settings

Row = tuple[object, ...]

_LOST = 2  # seconds without an answer after which the kernel asks whether the peer is still there
# SQLSTATEs and error numbers of a transaction that another one got in the way of: done again, it succeeds.
_PG_AGAIN = ("40001", "40P01", "23505", "55P03")
_MYSQL_AGAIN = (1020, 1062, 1205, 1213)
# … and of what no waiting mends: rights, names, a schema that somebody changed.
_MYSQL_REFUSED = (1044, 1045, 1049, 1054, 1142, 1143)
_PG_NO_TABLE, _MYSQL_NO_TABLE, _SQLITE_NO_TABLE = "42P01", 1146, "no such table"
_SQLITE_AGAIN = (5, 6)  # SQLITE_BUSY, SQLITE_LOCKED
_SQLITE_UNIQUE = 19  # SQLITE_CONSTRAINT


class Failure(Exception):
    """What a database said no with.

    `again`: the same transaction may succeed at once. `lost`: the connection is gone, and if it went during
    a commit nobody knows whether that took place. `refused`: it will fail until somebody changes something.
    `no_table`: a table does not exist.
    """

    def __init__(
        self,
        text: str,
        *,
        again: bool = False,
        lost: bool = False,
        refused: bool = False,
        no_table: bool = False,
    ) -> None:
        super().__init__(text)
        self.again = again
        self.lost = lost
        self.refused = refused
        self.no_table = no_table


class Connection:
    """One connection, in at most one transaction. The kinds differ in what they override."""

    kind = ""

    def __init__(self, settings: Settings, driver: ModuleType, wait: float) -> None:
        self._driver = driver
        self._settings = settings
        self._secret = ""
        try:
            self._connection = self._connect(settings.database, max(1, int(wait)))
        except self._errors() as failed:
            raise self._failure(failed, connecting=True) from None

    def begin(self) -> int:
        """Begin a transaction that sees what others commit, and return the time now."""
        raise NotImplementedError

    def run(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Execute one statement and return its rows."""
        return self._execute(sql, parameters)[0]

    def change(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """Execute one statement and return how many rows it changed."""
        return self._execute(sql, parameters)[1]

    def commit(self) -> None:
        self.run("COMMIT")

    def rollback(self) -> None:
        """End the transaction, also on a connection that is broken."""
        try:
            self.run("ROLLBACK")
        except Failure:
            return

    def lock_schema(self) -> None:
        """Wait until no other process makes the tables; holds until the transaction or connection ends."""

    def close(self) -> None:
        try:
            self._connection.close()
        except self._errors():
            return

    def _connect(self, database: Database, wait: int) -> Any:
        raise NotImplementedError

    def _errors(self) -> tuple[type[Exception], ...]:
        """What the driver raises; OSError for the sockets below it."""
        return (self._driver.Error, OSError)

    def _execute(self, sql: str, parameters: Sequence[object]) -> tuple[list[Row], int]:
        try:
            cursor = self._connection.cursor()
            cursor.execute(self._spelled(sql), tuple(parameters))
            rows = [tuple(row) for row in cursor.fetchall()] if cursor.description else []
            count = int(cursor.rowcount)
            cursor.close()
        except self._errors() as failed:
            raise self._failure(failed) from None
        return rows, count

    def _spelled(self, sql: str) -> Any:
        return sql

    def _failure(self, failed: Exception, *, connecting: bool = False) -> Failure:
        raise NotImplementedError

    def _said(self, failed: Exception) -> str:
        """The error in one line; no driver is known to print a password, and this one would not get out."""
        text = " ".join(str(failed).split()) or type(failed).__name__
        return text.replace(self._secret, "…") if self._secret else text

    def _read_secret(self, database: Database) -> str | None:
        self._secret = secretfile.read(database.password_file)
        return self._secret or None


class _PostgreSQL(Connection):
    kind = POSTGRESQL

    def _connect(self, database: Database, wait: int) -> Any:
        # libpq would take what is missing from the environment, which is the runtime's and not the node's.
        for name in [each for each in os.environ if each.startswith("PG")]:
            del os.environ[name]
        tls = database.tls
        options: dict[str, object] = {"sslmode": tls.mode}
        if "," in database.host:
            options["target_session_attrs"] = "read-write"  # of several hosts the one that takes writes
        if tls.mode.startswith("verify"):
            options["sslrootcert"] = tls.ca
        if tls.certificate:
            options |= {"sslcert": tls.certificate, "sslkey": tls.key}
        return self._driver.connect(
            host=database.socket or database.host,
            port=database.port,
            dbname=database.name,
            user=database.user,
            password=self._read_secret(database),
            passfile=os.devnull,
            connect_timeout=max(2, wait),
            keepalives_idle=_LOST,
            keepalives_interval=1,
            keepalives_count=3,
            tcp_user_timeout=wait * 1000,
            application_name="rkt-platform cni",
            client_encoding="UTF8",
            autocommit=True,  # transactions begin and end by the statements of this module
            prepare_threshold=None,  # a pooler in front would not know them
            **options,
        )

    def begin(self) -> int:
        self.run("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
        # For this transaction only, so that it works through a pooler, too. The last one ends a transaction
        # whose host went away in the middle, and the locks that it held.
        limit = f"{self._settings.timeout}s"
        rows = self.run(
            "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS BIGINT),"
            " set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true),"
            " set_config('idle_in_transaction_session_timeout', %s, true)",
            (limit, limit, limit),
        )
        return integer(rows[0][0])

    def lock_schema(self) -> None:
        self.run("SELECT pg_advisory_xact_lock(20160524, 1)")

    def _spelled(self, sql: str) -> Any:
        return sql.encode()  # the driver's types ask for text that is no variable, or for bytes

    def _failure(self, failed: Exception, *, connecting: bool = False) -> Failure:
        state = getattr(failed, "sqlstate", None) or ""
        lost = connecting or state.startswith(("08", "57P")) or bool(self._connection.closed)
        return Failure(
            self._said(failed),
            again=state in _PG_AGAIN,
            lost=lost,
            refused=not lost and state.startswith(("42", "28", "3D", "3F")),
            no_table=state == _PG_NO_TABLE,
        )


class _MySQL(Connection):
    kind = MYSQL

    def _connect(self, database: Database, wait: int) -> Any:
        place: dict[str, object] = {"host": database.host, "port": database.port}
        if database.socket:
            place = {"unix_socket": database.socket}
        tls = _tls_context(database) if database.tls.mode != "disable" else None
        place |= {"ssl_disabled": True} if tls is None else {"ssl": tls}
        made = self._driver.connect(
            **place,
            user=database.user,
            password=self._read_secret(database) or "",
            database=database.name,
            connect_timeout=wait,
            read_timeout=wait + 1,
            write_timeout=wait + 1,
            charset="utf8mb4",
            autocommit=True,
            defer_connect=True,
        )
        if tls is not None:
            _insist_on_tls(made, self._driver)
        made.connect()
        return made

    def begin(self) -> int:
        # The first ends a transaction whose host went away in the middle, and the locks that it held.
        limit = self._settings.timeout
        self.run(
            "SET SESSION wait_timeout = %s, innodb_lock_wait_timeout = %s, lock_wait_timeout = %s,"
            " sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
            (limit, limit, limit),
        )
        # Without gap locks, and each statement sees what is committed by then.
        self.run("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        self.run("START TRANSACTION")
        return integer(self.run("SELECT UNIX_TIMESTAMP()")[0][0])

    def lock_schema(self) -> None:
        got = self.run("SELECT GET_LOCK('rkt-platform cni schema', %s)", (self._settings.timeout,))
        if got[0][0] != 1:
            raise Failure("another process has been making the tables for too long")

    def _errors(self) -> tuple[type[Exception], ...]:
        """RuntimeError: the server wants a way of authentication that needs a package which is missing."""
        return (*super()._errors(), RuntimeError)

    def _failure(self, failed: Exception, *, connecting: bool = False) -> Failure:
        number = failed.args[0] if failed.args and isinstance(failed.args[0], int) else 0
        return Failure(
            self._said(failed),
            again=number in _MYSQL_AGAIN,
            lost=connecting or isinstance(failed, OSError) or 2000 <= number < 3000 or number in (0, 1053),
            refused=number in _MYSQL_REFUSED,
            no_table=number == _MYSQL_NO_TABLE,
        )


class _SQLite(Connection):
    kind = SQLITE

    def _connect(self, database: Database, wait: int) -> Any:
        os.makedirs(os.path.dirname(database.path), mode=0o700, exist_ok=True)
        # SQLite would make it by the umask; the files beside it get the mode of this one.
        os.close(os.open(database.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        made = self._driver.connect(database.path, timeout=wait, isolation_level=None)
        try:
            made.execute("PRAGMA journal_mode = WAL").close()
            made.execute("PRAGMA synchronous = FULL").close()  # exit 0 outlives a power cut
        except BaseException:
            made.close()
            raise
        return made

    def begin(self) -> int:
        self.run("BEGIN IMMEDIATE")
        return integer(self.run("SELECT CAST((julianday('now') - 2440587.5) * 86400 AS INTEGER)")[0][0])

    def _spelled(self, sql: str) -> Any:
        return sql.removesuffix(" FOR UPDATE").replace("%s", "?")

    def _failure(self, failed: Exception, *, connecting: bool = False) -> Failure:
        code = getattr(failed, "sqlite_errorcode", 0) & 0xFF
        return Failure(
            self._said(failed),
            again=code in _SQLITE_AGAIN or code == _SQLITE_UNIQUE,
            lost=connecting,
            no_table=_SQLITE_NO_TABLE in str(failed),
        )


_CLASSES = {POSTGRESQL: _PostgreSQL, MYSQL: _MySQL, SQLITE: _SQLite}


def connect(settings: Settings, wait: float) -> Connection:
    """A connection, made within about `wait` seconds. Raises Failure, CniError 7 without the driver."""
    return _CLASSES[settings.database.kind](settings, _driver(settings), wait)


def integer(value: object) -> int:
    """A number as a database gives it: PostgreSQL may say Decimal, MySQL str."""
    return int(str(value))


def away(database: object, failure: Failure) -> CniError:
    """The error of the specification for what a database said."""
    if failure.refused:
        return CniError(INVALID_CONFIG, f"{database} refuses", str(failure))
    return CniError(TRY_AGAIN_LATER, f"{database} is away", str(failure))


def _driver(settings: Settings) -> ModuleType:
    """The DB-API module, from the path as it is or from where the distribution and pip put packages.

    A plugin starts without these directories (-I -S): they are looked into for this import alone, after
    everything else, and by the child that talks to the database.
    """
    if settings.database.kind == SQLITE:
        import sqlite3

        return sqlite3
    name, package = {
        POSTGRESQL: ("psycopg", "python3-psycopg"),
        MYSQL: ("pymysql", "python3-pymysql"),
    }[settings.database.kind]
    import sys

    if settings.site_packages:
        sys.path.append(settings.site_packages)
    try:
        return __import__(name)
    except ImportError:
        import site

        sys.path += [each for each in site.getsitepackages() if each not in sys.path]
    try:
        return __import__(name)
    except ImportError as missing:
        raise CniError(
            INVALID_CONFIG,
            f"the database driver {name} is not installed",
            f"{missing}; install it (Debian: {package}), or name its directory as ipam.sitePackages",
        ) from None


def _tls_context(database: Database) -> object:
    import ssl

    tls = database.tls
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = tls.mode == "verify-full"
    if tls.mode == "require":
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(tls.ca)
    if tls.certificate:
        context.load_cert_chain(tls.certificate, tls.key)
    return context


def _insist_on_tls(connection: Any, driver: ModuleType) -> None:
    """Have an old PyMySQL not go on in the clear, password and all, when a server says it has no TLS."""
    greet = connection._get_server_information

    def insist() -> None:
        greet()
        if not connection.server_capabilities & driver.constants.CLIENT.SSL:
            raise driver.err.OperationalError(2026, "the server speaks no TLS")

    connection._get_server_information = insist
