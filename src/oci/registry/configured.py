"""Registries as rkt's configuration directories have them: the one reader for all programs.

`registries.d` (mirrors, plain http, blocked hosts), `auth.d` (logins, before those of docker and podman) and
`certs.d` (authorities and client certificates by host, before those that podman and docker have).
"""

from __future__ import annotations

import os

from appc import jsonfield
from appc.http import certificates
from appc.settings.files import ConfigError, read
from oci.registry.logins import Login, Logins
from oci.registry.settings import KIND, Rule, Settings, rules_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def settings(directories: Sequence[str], *, plain_http: bool = False, insecure_tls: bool = False) -> Settings:
    """What `directories` (the weakest first) say, under the checks that the user left on. ConfigError."""
    return Settings(load_rules(directories), plain_http, insecure_tls, certificates.places(directories))


def load_rules(directories: Iterable[str]) -> dict[str, Rule]:
    """How registries are reached, by registry; of two rules the later directory's counts."""
    merged: dict[str, Rule] = {}
    for directory in directories:
        merged |= read_rules(directory)
    return merged


def read_rules(config: str) -> dict[str, Rule]:
    """`registries.d` of one configuration directory: a rule for each registry, given once."""
    found: dict[str, Rule] = {}
    for path, _, content in read(f"{config}/{KIND}.d", (KIND,)):
        try:
            rules = rules_of(content)
        except ValueError as error:
            raise ConfigError(path, "; ".join(jsonfield.reasons(error))) from None
        if again := sorted(set(rules) & set(found)):
            raise ConfigError(path, f"the registry {again[0]!r} is already specified")
        found |= rules
    return found


def logins(directories: Iterable[str]) -> Logins:
    """Who we are at registries: what `auth.d` says, then what docker and podman have in their files."""
    from appc.settings.auth import read_directories

    _, registries = read_directories(directories)
    given = {
        registry: Login(auth.credentials["user"], auth.credentials["password"])
        for registry, auth in registries.items()
    }
    return Logins(given, environ=os.environ)
