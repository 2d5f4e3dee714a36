"""Credentials: the kinds `auth` (web servers) and `dockerAuth` (registries) of `auth.d`.

What is read here are secrets. No error message holds any of it but names of domains and types.
"""

from __future__ import annotations

from appc.settings.files import ConfigError, read, text, texts
from linux.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from appc.http.auth import Credential, Credentials

DIRECTORY = "auth.d"
KINDS = ("auth", "dockerAuth")

# The credentials of each type: names of strings, and whether each must be there.
_TYPES = {
    "basic": {"user": True, "password": True},
    "oauth": {"token": True},
    "aws": {"accessKeyID": True, "secretAccessKey": True, "awsRegion": False},
}


class Auth(NamedTuple):
    """Credentials for one domain, as they were written in the file `path`."""

    type: str
    credentials: dict[str, str]
    path: str

    def credential(self) -> Credential:
        """What the web client sends."""
        from appc.http.auth import AwsV4, Basic, Bearer

        given = self.credentials
        match self.type:
            case "basic":
                return Basic(given["user"], given["password"])
            case "oauth":
                return Bearer(given["token"])
            case _:
                return AwsV4(given["accessKeyID"], given["secretAccessKey"], given.get("awsRegion", ""))


def read_directory(config: str) -> tuple[dict[str, Auth], dict[str, Auth]]:
    """Credentials by domain, and by registry, from `auth.d` of one configuration directory.

    Files that this user may not read hold somebody else's credentials: they are not there.
    """
    domains: dict[str, Auth] = {}
    registries: dict[str, Auth] = {}
    for path, kind, content in read(f"{config}/{DIRECTORY}", KINDS, skip_unreadable=True):
        if kind == "auth":
            _auth(path, content, domains)
        else:
            _docker_auth(path, content, registries)
    return domains, registries


def read_directories(directories: Iterable[str]) -> tuple[dict[str, Auth], dict[str, Auth]]:
    """The same from all configuration directories; those of later ones override those of earlier ones."""
    domains: dict[str, Auth] = {}
    registries: dict[str, Auth] = {}
    for directory in directories:
        found = read_directory(directory)
        domains |= found[0]
        registries |= found[1]
    return domains, registries


def load(
    directories: Iterable[str], *, everywhere: tuple[str, Credential] | None = None, plain: bool = False
) -> Credentials:
    """Those for web servers of all configuration directories.

    `everywhere` and `plain` are as in `Credentials`.
    """
    from appc.http.auth import Credentials

    domains, _ = read_directories(directories)
    found = {domain: each.credential() for domain, each in domains.items()}
    return Credentials(found, everywhere=everywhere, plain=plain)


def _auth(path: str, content: dict[str, object], domains: dict[str, Auth]) -> None:
    from appc.http.auth import place

    names, type_ = texts(path, content, "domains"), text(path, content, "type")
    if not names:
        raise ConfigError(path, "no domains specified")
    if not type_:
        raise ConfigError(path, "no auth type specified")
    if type_ not in _TYPES:
        raise ConfigError(path, f"unknown auth type: {type_!r}", hint=f"choose from {', '.join(_TYPES)}")
    auth = Auth(type_, _credentials(path, content, type_), path)
    for name in names:
        try:
            place(name)
        except ValueError as error:
            raise ConfigError(path, f"domain {name!r} {error}") from None
        if name in domains:
            raise ConfigError(
                path, f'auth for domain "{name}" is already specified', hint=_seen(domains[name])
            )
        domains[name] = auth


def _docker_auth(path: str, content: dict[str, object], registries: dict[str, Auth]) -> None:
    names = texts(path, content, "registries")
    if not names:
        raise ConfigError(path, "no registries specified")
    auth = Auth("basic", _credentials(path, content, "basic"), path)
    for name in names:
        if name in registries:
            raise ConfigError(
                path,
                f'credentials for docker registry "{name}" are already specified',
                hint=_seen(registries[name]),
            )
        registries[name] = auth


def _seen(auth: Auth) -> str:
    return f"the other one is in {auth.path}"


def _credentials(path: str, content: dict[str, object], type_: str) -> dict[str, str]:
    given = content.get("credentials")
    if not isinstance(given, dict):
        raise ConfigError(path, "no credentials specified")
    found = {}
    for name, needed in _TYPES[type_].items():
        value = text(path, given, name)
        if needed and not value:
            raise ConfigError(path, f"credentials: {name} not specified")
        if not value.isprintable():
            raise ConfigError(path, f"credentials: {name} holds a control character")
        if value:
            found[name] = value
    return found
