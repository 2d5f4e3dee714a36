"""The configuration file of acserver: YAML, or JSON, which is YAML too.

::

    api:
      serverName: example.com     # default: the host that each request names
      port: 3000
      https: false                # addresses begin with https: a proxy in front, or our own TLS, does it
      username: releases          # without it anybody may push
      password: secret            # or passwordFile: /etc/acserver/password
      address: 127.0.0.1          # default: all addresses
      certificate: cert.pem       # our own TLS, with the key in the same file or in `key`
    storage:
      rootPath: /var/lib/acserver
      unsigned: false             # take images without a signature by a key of pubkeys.gpg
      allowOverride: true         # another image may take the place of a published one
      maxSize: 16Gi
"""

from __future__ import annotations

import os
import re

from appc import jsonfield
from appc.errors import AppcError
from linux.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import TypeVar

    T = TypeVar("T")

ROOT = "/var/lib/acserver"
PORT = 3000
MAX_SIZE = 16 << 30
_LIMIT = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?(?::[0-9]{1,5})?")


class Config(NamedTuple):
    """What is configured; empty texts where nothing is. `max_size` is in bytes, of the compressed image."""

    server_name: str = ""
    port: int = PORT
    https: bool = False
    username: str = ""
    password: str = ""
    address: str = ""
    certificate: str = ""
    key: str = ""
    root: str = ROOT
    unsigned: bool = False
    allow_override: bool = True
    max_size: int = MAX_SIZE

    @property
    def scheme(self) -> str:
        return "https" if self.https else "http"


def load(path: str) -> Config:
    """The configuration in the file `path`. AppcError for what is none, OSError when it cannot be read."""
    with open(path, "rb") as file:
        data = file.read(_LIMIT + 1)
    try:
        return parse(data, os.path.dirname(os.path.abspath(path)))
    except ValueError as error:
        raise AppcError(f"{path}: {'; '.join(jsonfield.reasons(error))}") from None


def parse(data: bytes, directory: str = "/") -> Config:
    """The configuration in `data`; relative paths in it are relative to `directory`. ValueError."""
    content = _Section(_read(data), "")
    api, storage = content.section("api"), content.section("storage")
    content.finish()

    def path(value: object) -> str:
        return os.path.join(directory, jsonfield.nonempty(value))

    password_file = api.get("passwordFile", path, "")
    config = Config(
        server_name=api.get("serverName", _server_name, "").lower(),
        port=api.get("port", jsonfield.between(1, 65535), PORT),
        https=api.get("https", jsonfield.boolean, False),
        username=api.get("username", _text, ""),
        password=api.get("password", _text, ""),
        address=api.get("address", jsonfield.string, ""),
        certificate=api.get("certificate", path, ""),
        key=api.get("key", path, ""),
        root=storage.get("rootPath", path, ROOT),
        unsigned=storage.get("unsigned", jsonfield.boolean, False),
        allow_override=storage.get("allowOverride", jsonfield.boolean, True),
        max_size=storage.get("maxSize", _size, MAX_SIZE),
    )
    api.finish()
    storage.finish()
    if password_file:
        if config.password:
            raise ValueError("api: both password and passwordFile are given")
        with open(password_file, encoding="utf-8") as file:
            config = config._replace(password=file.read(4096).rstrip("\r\n"))
    if bool(config.username) is not bool(config.password):
        raise ValueError("api: username and password belong together")
    if ":" in config.username:
        raise ValueError("api.username: holds a colon")
    if config.key and not config.certificate:
        raise ValueError("api.key: there is no certificate to go with it")
    return config._replace(https=config.https or bool(config.certificate))


def _read(data: bytes) -> dict[str, object]:
    if len(data) > _LIMIT:
        raise ValueError(f"is longer than {_LIMIT} bytes")
    if data.lstrip()[:1] == b"{":
        return jsonfield.obj(jsonfield.parse(data))
    yaml = _yaml()
    try:
        content = yaml.safe_load(data)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise ValueError(f"is no YAML{where}") from None  # the text itself may hold the password
    return jsonfield.obj({} if content is None else content)


def _yaml() -> ModuleType:
    """PyYAML, also where the launcher has left out the directories of the distribution and of pip."""
    try:
        import yaml
    except ModuleNotFoundError:
        import site
        import sys

        sys.path += [each for each in site.getsitepackages() if each not in sys.path]
        try:
            import yaml
        except ModuleNotFoundError:
            raise AppcError(
                "cannot read YAML: PyYAML is not installed",
                hint="install the package python3-yaml, or write the configuration as JSON",
            ) from None
    return yaml


class _Section:
    """One mapping of the file, of which every member has to be known."""

    def __init__(self, members: dict[str, object], name: str) -> None:
        self._left = dict(members)
        self._name = name

    def section(self, name: str) -> _Section:
        value = self._left.pop(name, None)
        return _Section({} if value is None else jsonfield.obj(value), name)

    def get(self, name: str, read: Callable[[object], T], default: T) -> T:
        value = self._left.pop(name, None)
        if value is None:
            return default
        try:
            return read(value)
        except ValueError as error:
            reason = "; ".join(jsonfield.reasons(error))
            raise ValueError(f"{self._name}.{name}: {reason}") from None

    def finish(self) -> None:
        for name in self._left:
            shown = f"{self._name}.{name}" if self._name else str(name)
            raise ValueError(f"{shown}: there is no such setting")


def _text(value: object) -> str:
    """A user name or a password; nothing of it is shown."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError("is no text on one line")
    return value


def _server_name(value: object) -> str:
    text = jsonfield.string(value)
    if text and not _NAME.fullmatch(text):
        raise ValueError(f"{jsonfield.quoted(text)} is no host name with an optional port")
    return text


def _size(value: object) -> int:
    from appc.types.quantity import NANO, Quantity

    amount = Quantity.from_json(value)
    if amount.nanos % NANO or amount.value() <= 0:
        raise ValueError(f"{amount} is no number of bytes")
    return amount.value()
