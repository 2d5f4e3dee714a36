"""Certificates for single hosts: the authority that a host is checked by, and our own (Docker's certs.d).

In a directory of that name each host has one, ``HOST`` or ``HOST:PORT``: ``*.crt`` are authorities, beside
those of the system; ``NAME.cert`` with ``NAME.key`` is what the client proves itself with. A host gets what
its own directory holds: one that it redirects to is another host.
"""

from __future__ import annotations

import os

from appc.settings.files import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence
    from typing import Self

    from appc.http.url import Url

#: Where podman and docker look for certificates; these come after our own.
_OTHERS = ("/etc/containers/certs.d", "/etc/docker/certs.d")


def places(config: Sequence[str]) -> tuple[str, ...]:
    """The directories of certificates, the strongest first, for those of configuration, the weakest first."""
    return (*(f"{directory}/certs.d" for directory in reversed(config)), *_OTHERS)


class Certificates:
    """Those of `directories`, the strongest first: one directory decides about a host.

    `known_as` are further names of hosts, as people write them. Several threads may use it at once.
    """

    def __init__(self, directories: Sequence[str] = (), *, known_as: Mapping[str, str] | None = None) -> None:
        self._directories = tuple(directories)
        self._known_as = known_as or {}
        self._made: dict[tuple[str, int], ssl.SSLContext | None] = {}

    @classmethod
    def of(cls, config: Sequence[str]) -> Self:
        """Those that rkt's directories of configuration and this host have."""
        return cls(places(config))

    def context(self, url: Url, *, verify: bool) -> ssl.SSLContext | None:
        """How to speak TLS with the host of `url`; None where nothing is configured for it.

        ConfigError for files that are no certificates and keys, or not there in pairs.
        """
        place = url.host, url.port
        if place not in self._made:
            directory = self._directory(url)
            self._made[place] = _loaded(directory, verify=verify) if directory else None
        return self._made[place]

    def _directory(self, url: Url) -> str:
        host = f"[{url.host}]" if ":" in url.host else url.host
        hosts = [name for name in (self._known_as.get(url.host), host) if name]
        names = [f"{name}:{url.port}" for name in hosts]
        if url.port == 443:
            names += hosts
        for above in self._directories:
            for name in names:
                if os.path.isdir(f"{above}/{name}"):
                    return f"{above}/{name}"
        return ""


def _loaded(directory: str, *, verify: bool) -> ssl.SSLContext | None:
    """What `directory` holds. As with credentials, what this user may not read is somebody else's."""
    import ssl

    from appc.http.connection import tls_context

    try:
        names = sorted(os.listdir(directory))
    except PermissionError:
        return None
    context = tls_context(verify=verify)
    used = False
    for name in names:
        path = f"{directory}/{name}"
        stem, _, ending = path.rpartition(".")
        partner = {"cert": f"{stem}.key", "key": f"{stem}.cert"}.get(ending)
        if partner is not None and os.path.basename(partner) not in names:
            raise ConfigError(path, f"{os.path.basename(partner)} is missing beside it")
        try:
            if ending == "crt":
                context.load_verify_locations(path)
            elif ending == "cert":
                # a key with a passphrase is an error, never a question at the terminal
                context.load_cert_chain(path, partner, password=lambda: "")
            used = used or ending in {"crt", "cert"}
        except PermissionError:
            continue
        except ssl.SSLError:
            what = "certificate" if ending == "crt" else "certificate that fits the key beside it"
            raise ConfigError(path, f"is no {what}") from None
        except OSError as error:
            raise ConfigError(path, f"cannot be read: {error.strerror or error}") from None
    return context if used else None
