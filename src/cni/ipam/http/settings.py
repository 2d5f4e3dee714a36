"""What a configuration of `http` says: where the service is, who we are, what it may give out."""

from __future__ import annotations

import os

from cni.types.address import Cidr, is_loopback

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from typing import Final

    from cni.fields import Fields

_TEXT = "!$&'()*+,-./:;=@_~%"


class Settings:
    """`path` is the URL's, without a slash at its end. `timeout` is seconds for a whole call.

    `subnets` are the prefixes that the service may give addresses of: whatever it answers beyond them is
    refused, so that it cannot lay routes over anything else. `parameters` go to it as they are.
    """

    __slots__ = (
        "ca",
        "certificate",
        "host",
        "key",
        "node",
        "parameters",
        "password_file",
        "path",
        "port",
        "socket",
        "subnets",
        "timeout",
        "tls",
        "token_file",
        "username",
    )

    def __init__(self, ipam: Fields) -> None:
        url = _url(ipam)
        self.tls: Final = url[0]
        self.host: Final = url[1]
        self.port: Final = url[2]
        self.path: Final = url[3]
        self.socket: Final = ipam.string("socket")
        self.ca: Final = ipam.string("ca")
        self.certificate: Final = ipam.string("certificate")
        self.key: Final = ipam.string("key")
        self.token_file: Final = ipam.string("tokenFile")
        self.username: Final = ipam.string("username")
        self.password_file: Final = ipam.string("passwordFile")
        self.node: Final = ipam.string("node") or os.uname().nodename
        self.timeout: Final = ipam.integer("timeout", 10, low=1, high=300)
        self.subnets: Final = tuple(Cidr.parse(each) for each in ipam.strings("subnets"))
        self.parameters: Final = ipam.mapping("parameters").values
        self._check(ipam)

    def _check(self, ipam: Fields) -> None:
        if not self.subnets:
            raise ValueError(
                f"{ipam.path('subnets')} is missing: the prefixes that the service may give addresses of"
            )
        for each in self.subnets:
            if each.network != each:
                raise ValueError(f"{ipam.path('subnets')}: {each} has host bits set")
        if bool(self.certificate) != bool(self.key):
            raise ValueError(f"{ipam.path('certificate')} and {ipam.path('key')} go together")
        if bool(self.username) != bool(self.password_file):
            raise ValueError(f"{ipam.path('username')} and {ipam.path('passwordFile')} go together")
        if self.token_file and self.username:
            raise ValueError(f"{ipam.path('tokenFile')} and {ipam.path('username')} exclude each other")
        for key in ("password", "token"):
            if ipam.get(key) is not None:
                raise ValueError(
                    f"{ipam.path(key)}: a secret in the configuration would be copied into caches; write it"
                    f" into a file that only root can read, and name that as {key}File"
                )
        if ":" in self.username or not self.username.isprintable():
            raise ValueError(f"{ipam.path('username')}: {self.username!r} cannot be sent: it holds a colon")
        if self.socket and not self.socket.startswith("/"):
            raise ValueError(f"{ipam.path('socket')}: {self.socket!r} is not an absolute path")
        if self.socket and self.tls:
            raise ValueError(f"{ipam.path('socket')}: on a socket of this host the URL is an http one")
        if not self.tls and not self.socket and not is_loopback(self.host):
            raise ValueError(
                f"{ipam.path('url')}: without TLS anybody on the way could give out addresses; https, please"
            )
        if not self.node or len(self.node) > 200 or not self.node.isprintable():
            raise ValueError(f"{ipam.path('node')}: {self.node!r} is no name for a node")

    def __str__(self) -> str:
        """The service, for messages."""
        return f"IPAM service at {self.socket or f'{self.host} port {self.port}'}"


def _url(ipam: Fields) -> tuple[bool, str, int, str]:
    """(TLS, host, port, path). What is wrong is said without showing the URL: it may hold a password."""
    from urllib.parse import urlsplit

    where = ipam.path("url")
    text = ipam.string("url")
    if not text:
        raise ValueError(f"{where} is missing")
    try:
        parts = urlsplit(text)
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode("ascii") if parts.hostname else ""
    except ValueError:
        raise ValueError(f"{where} is not a URL") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"{where} is not an http or https URL with a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"{where} holds a user; use username and passwordFile, or tokenFile")
    if parts.query or parts.fragment:
        raise ValueError(f"{where} has a query or a fragment; paths are appended to it")
    if not all(each.isascii() and (each.isalnum() or each in _TEXT) for each in parts.path):
        raise ValueError(f"{where}: its path holds characters that have to be percent-encoded")
    tls = parts.scheme == "https"
    return tls, host, port or (443 if tls else 80), parts.path.rstrip("/")
