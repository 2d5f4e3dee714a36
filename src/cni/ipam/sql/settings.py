"""What a configuration of `sql` says: which database, who this node is, how long addresses are kept.

``database`` is a URL or an object::

    "database": "postgresql://cni@db.example.com/ipam?sslmode=verify-full&sslrootcert=/etc/cni/ca.pem"
    "database": {"type": "mysql", "host": "db.example.com", "name": "ipam", "user": "cni", "tls": {"ca": "…"}}
    "database": "sqlite:///var/lib/cni/ipam.sqlite"

The password stands in the file ``passwordFile``, never in the configuration: that is copied into caches and
records.
"""

from __future__ import annotations

import os

from cni.fields import Fields
from cni.types.address import is_loopback

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from typing import Final

    from cni.request import Request

POSTGRESQL, MYSQL, SQLITE = "postgresql", "mysql", "sqlite"
_KINDS = {
    "postgresql": POSTGRESQL,
    "postgres": POSTGRESQL,
    "mysql": MYSQL,
    "mariadb": MYSQL,
    "sqlite": SQLITE,
    "sqlite3": SQLITE,
}
_PORTS = {POSTGRESQL: 5432, MYSQL: 3306, SQLITE: 0}
TLS_MODES = ("disable", "require", "verify-ca", "verify-full")
_QUERY = {"sslmode": "mode", "sslrootcert": "ca", "sslcert": "certificate", "sslkey": "key"}
_DAY = 86400
_DISTRIBUTION_CA = "/etc/ssl/certs/ca-certificates.crt"


class Tls:
    """How a connection is protected. `mode` is one of `TLS_MODES`, with the meanings of libpq's sslmode."""

    __slots__ = ("ca", "certificate", "key", "mode")

    def __init__(self, fields: Fields, *, default_mode: str) -> None:
        self.mode: Final = fields.string("mode") or default_mode
        if self.mode not in TLS_MODES:
            raise ValueError(f"{fields.path('mode')}: {self.mode!r} is not one of {', '.join(TLS_MODES)}")
        self.ca: Final = fields.string("ca") or _DISTRIBUTION_CA
        self.certificate: Final = fields.string("certificate")
        self.key: Final = fields.string("key")
        if bool(self.certificate) != bool(self.key):
            raise ValueError(f"{fields.path('certificate')} and {fields.path('key')} go together")


class Database:
    """Where the database is. `host` is a name or address, or "" with a `socket` or a `path` (SQLite)."""

    __slots__ = ("host", "kind", "name", "password_file", "path", "port", "socket", "tls", "user")

    def __init__(self, fields: Fields) -> None:
        kind = fields.string("type")
        if kind not in _KINDS:
            raise ValueError(
                f"{fields.path('type')}: {kind!r} is not one of postgresql, mysql, mariadb, sqlite"
            )
        if fields.get("password") is not None:
            raise ValueError(
                f"{fields.path('password')}: a password in the configuration would be copied into caches; "
                "write it into a file that only root can read, and name that as passwordFile"
            )
        self.kind: Final = _KINDS[kind]
        self.path: Final = fields.string("path")
        self.host: Final = fields.string("host")
        self.socket: Final = fields.string("socket")
        self.port: Final = fields.integer("port", _PORTS[self.kind], low=0, high=65535)
        self.name: Final = fields.string("name")
        self.user: Final = fields.string("user")
        self.password_file: Final = fields.string("passwordFile")
        self.tls: Final = Tls(
            fields.mapping("tls"),
            default_mode="disable" if not self.host or is_loopback(self.host) else "verify-full",
        )
        self._check(fields)

    def _check(self, fields: Fields) -> None:
        if self.kind == SQLITE:
            if not self.path.startswith("/"):
                raise ValueError(f"{fields.path('path')}: {self.path!r} is not an absolute path")
            return
        if bool(self.host) == bool(self.socket):
            raise ValueError(f"{fields.path('host')} or {fields.path('socket')}: one of them is needed")
        if self.socket and not self.socket.startswith("/"):
            raise ValueError(f"{fields.path('socket')}: {self.socket!r} is not an absolute path")
        for key, value in (("name", self.name), ("user", self.user)):
            if not value:
                raise ValueError(f"{fields.path(key)} is missing")
        for value in (self.host, self.name, self.user):
            if any(ord(each) < 32 for each in value):
                raise ValueError(f"{fields.path('type')}: control characters in {value!r}")

    def __str__(self) -> str:
        """Where it is, without who we are: for messages."""
        if self.kind == SQLITE:
            return f"SQLite database {self.path}"
        place = self.socket or f"{self.host} port {self.port}"
        return f"{'PostgreSQL' if self.kind == POSTGRESQL else 'MySQL'} database {self.name} at {place}"


class Settings:
    """`timeout`, `reuse_after`, `sticky_for`, `reclaim_after` are seconds; `reclaim_after` 0 is never."""

    __slots__ = (
        "database",
        "node",
        "reclaim_after",
        "reuse_after",
        "site_packages",
        "sticky_for",
        "timeout",
    )

    def __init__(self, ipam: Fields) -> None:
        self.database: Final = Database(_database(ipam))
        self.node: Final = ipam.string("node") or os.uname().nodename
        self.timeout: Final = ipam.integer("timeout", 10, low=1, high=300)
        self.reuse_after: Final = ipam.integer("reuseAfter", 60, low=0, high=365 * _DAY)
        self.sticky_for: Final = ipam.integer("stickyFor", 7 * _DAY, low=0, high=3650 * _DAY)
        self.reclaim_after: Final = ipam.integer("reclaimAfter", 0, low=0, high=3650 * _DAY)
        self.site_packages: Final = ipam.string("sitePackages")
        if 0 < self.reclaim_after < 600:
            raise ValueError(f"{ipam.path('reclaimAfter')}: less than 600 s take addresses from idle nodes")
        if self.site_packages and not self.site_packages.startswith("/"):
            raise ValueError(f"{ipam.path('sitePackages')}: {self.site_packages!r} is not an absolute path")
        if not self.node or len(self.node) > 200 or not self.node.isprintable():
            raise ValueError(f"{ipam.path('node')}: {self.node!r} is no name for a node")


def settings(request: Request) -> Settings:
    """Those of the request's configuration; raises ValueError for what makes no sense."""
    return Settings(request.ipam)


def _database(ipam: Fields) -> Fields:
    value = ipam.get("database")
    if value is None:
        raise ValueError(f"{ipam.path('database')} is missing")
    if not isinstance(value, str):
        return ipam.mapping("database")
    fields = _from_url(value, ipam.path("database"))
    if ipam.get("passwordFile") is not None:
        fields["passwordFile"] = ipam.string("passwordFile")
    return Fields(fields, ipam.path("database"))


def _from_url(url: str, path: str) -> dict[str, object]:
    """The object for a URL. What is wrong with it is said without showing it: it may hold a password."""
    from urllib.parse import parse_qsl, unquote, urlsplit

    try:
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        found: dict[str, object] = {"type": parts.scheme, "port": parts.port}
    except ValueError:
        raise ValueError(f"{path} is not a URL") from None
    if parts.password is not None:
        found["password"] = True  # refused by whoever reads the object
    if _KINDS.get(parts.scheme) == SQLITE:
        if parts.netloc:
            raise ValueError(f"{path}: write sqlite:///PATH, with three slashes")
        return {**found, "path": unquote(parts.path)}
    found |= {
        "host": parts.hostname or query.pop("host", ""),
        "user": unquote(parts.username or ""),
        "name": unquote(parts.path.removeprefix("/")),
    }
    if str(found["host"]).startswith("/"):
        found["socket"], found["host"] = found["host"], ""
    if "socket" in query:
        found["socket"], found["host"] = query.pop("socket"), ""
    found["tls"] = {_QUERY[key]: query.pop(key) for key in tuple(query) if key in _QUERY}
    if query:
        raise ValueError(f"{path}: unknown parameters {', '.join(sorted(query))}")
    return found
