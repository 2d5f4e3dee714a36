"""The `*.json` files of one configuration directory, each with its `rktKind` and `rktVersion`."""

from __future__ import annotations

import os
import stat

from appc.errors import AppcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_LIMIT = 1 << 20  # bytes of one file
VERSION = "v1"


class ConfigError(AppcError):
    """A configuration file that does not say what it should, or says something that another one says too."""

    def __init__(self, path: str, problem: str, *, hint: str | None = None) -> None:
        super().__init__(f"{path}: {problem}", hint=hint)
        self.path = path


def read(
    directory: str, kinds: tuple[str, ...], *, skip_unreadable: bool = False
) -> Iterator[tuple[str, str, dict[str, object]]]:
    """Path, kind and content of each file in `directory`, in the order of their names.

    Only regular files with the suffix `.json` count, as in rkt: no links, nothing in directories below.
    A directory that does not exist is empty. ConfigError for a file of another kind or version.
    With `skip_unreadable` what this user may not read is not there.
    """
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise ConfigError(directory, "is not a directory") from None
    except PermissionError:
        if skip_unreadable:
            return
        raise
    for name in names:
        path = os.path.join(directory, name)
        if name.endswith(".json") and stat.S_ISREG(os.lstat(path).st_mode):
            try:
                content = _parsed(path)
            except PermissionError:
                if skip_unreadable:
                    continue
                raise
            yield path, _kind(path, content, kinds), content


def _parsed(path: str) -> dict[str, object]:
    from appc import jsonfield

    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        data = os.read(fd, _LIMIT + 1)
    finally:
        os.close(fd)
    try:
        return jsonfield.obj(jsonfield.parse(data, limit=_LIMIT))
    except ValueError as error:
        raise ConfigError(path, str(error)) from None


def _kind(path: str, content: dict[str, object], kinds: tuple[str, ...]) -> str:
    kind, version = content.get("rktKind"), content.get("rktVersion")
    if not isinstance(kind, str) or not kind:
        raise ConfigError(path, "no rktKind specified")
    if not isinstance(version, str) or not version:
        raise ConfigError(path, "no rktVersion specified")
    if kind not in kinds:
        wanted = " or ".join(kinds)
        raise ConfigError(path, f"is of kind {kind!r}; this directory holds files of kind {wanted}")
    if version != VERSION:
        raise ConfigError(path, f"is of version {version!r}; only {VERSION} is understood")
    return kind


def text(path: str, content: dict[str, object], name: str) -> str:
    """The string at `name`, empty when absent or null. No message shows what is there: it may be a secret."""
    value = content.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or "\0" in value:
        raise ConfigError(path, f"{name} is not a string")
    return value


def texts(path: str, content: dict[str, object], name: str) -> list[str]:
    """The list of strings at `name`, empty when absent or null."""
    value = content.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise ConfigError(path, f"{name} is not a list of strings")
    return value
