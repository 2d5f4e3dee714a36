"""Web addresses, parsed once and strictly (RFC 3986), with what may be shown of them.

Only http and https, only printable ASCII. The parser is our own because the library's accepts what
servers and proxies then read differently (CVE-2023-24329 and its kind).
"""

from __future__ import annotations

import re

from linux.named_tuple import NamedTuple

PORTS = {"http": 80, "https": 443}
LONGEST = 8192
_SHAPE = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<rest>[^#]*)(?:#.*)?")
_ALLOWED = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%{}|^-]*")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?")


class Url(NamedTuple):
    """`host` is in lower case and without brackets, `target` is path and query, `userinfo` is as written."""

    scheme: str
    host: str
    port: int
    target: str
    userinfo: str

    @property
    def origin(self) -> tuple[str, str, int]:
        """What credentials and connections are bound to: scheme, host and port (RFC 6454)."""
        return (self.scheme, self.host, self.port)

    @property
    def authority(self) -> str:
        """Host, in brackets when it is an IPv6 address, and the port unless it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def __str__(self) -> str:
        """The address without user name and password: what may be shown and stored."""
        return f"{self.scheme}://{self.authority}{self.target}"

    def without_query(self) -> str:
        """For addresses that a server made up: their queries are often tokens."""
        return f"{self.scheme}://{self.authority}{self.path}" + ("?…" if "?" in self.target else "")


def parse(text: str) -> Url:
    """The address `text`; ValueError that never repeats the text's user name and password."""
    if len(text) > LONGEST:
        raise ValueError(f"is longer than {LONGEST} characters")
    found = _SHAPE.fullmatch(text)
    if found is None:
        raise ValueError("is not an absolute URL")
    scheme = found["scheme"].lower()
    if scheme not in PORTS:
        raise ValueError(f"has the scheme {scheme!r}: only http and https are supported")
    if not _ALLOWED.fullmatch(text):
        raise ValueError("holds a character that must be percent-encoded in a URL")
    userinfo, _, hostport = found["authority"].rpartition("@")
    host, port = _host_and_port(hostport, PORTS[scheme])
    rest = found["rest"]
    return Url(scheme, host, port, rest if rest.startswith("/") else "/" + rest, userinfo)


def _host_and_port(text: str, default: int) -> tuple[str, int]:
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or (port and not port.startswith(":")) or not _is_ipv6(host):
            raise ValueError("has a malformed IPv6 address")
        port = port[1:]
    else:
        host, _, port = text.partition(":")
        if not _HOST.fullmatch(host) or ".." in host:
            raise ValueError("has a malformed host name" if host else "has no host name")
    if not port:
        return host.lower(), default
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise ValueError("has a malformed port")
    return host.lower(), int(port)


def _is_ipv6(text: str) -> bool:
    import socket

    try:
        socket.inet_pton(socket.AF_INET6, text)
    except OSError:
        return False
    return True


def join(base: Url, reference: str) -> Url:
    """Where `reference` (a Location header) leads from `base`; ValueError when nowhere we go.

    Credentials in a redirect are never the user's, so they are refused.
    """
    from urllib.parse import urljoin

    if len(reference) > LONGEST:
        raise ValueError(f"is longer than {LONGEST} characters")
    url = parse(urljoin(str(base), reference))
    if url.userinfo:
        raise ValueError("holds a user name or password")
    return url


def is_loopback(host: str) -> bool:
    """Whether the host is an address of loopback, or a name that must lead there (RFC 6761)."""
    import ipaddress

    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
