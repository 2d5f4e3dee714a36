"""Whose the copied files are: ``--chown=USER[:GROUP]``, with names of the image's own passwd and group."""

from __future__ import annotations

from acbuild.errors import AcbuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from linux.paths import Root

_HIGHEST = 2**32 - 2
_PASSWD, _GROUP = "etc/passwd", "etc/group"
_LIMIT = 1 << 20


def parse(text: str, root: Root) -> Callable[[int, int], tuple[int, int]]:
    """A function that gives everything to the user and group in `text`.

    Digits are an ID and are never looked up (R17). Without a group it is the user's own in the image's
    passwd, or for a number the same number.
    """
    user, colon, group = text.partition(":")
    if not user or (colon and not group):
        raise AcbuildError(f"--chown: {text!r} is not USER or USER:GROUP")
    uid, own = _user(user, root)
    gid = _id(group, root, _GROUP)[0] if group else own

    def owner(_uid: int, _gid: int) -> tuple[int, int]:
        return uid, gid

    return owner


def _user(user: str, root: Root) -> tuple[int, int]:
    uid, fields = _id(user, root, _PASSWD)
    return uid, _number(fields[3], f"group of {user}") if len(fields) > 3 else uid


def _id(name: str, root: Root, file: str) -> tuple[int, list[str]]:
    """The number for `name`, and its fields in `file` (none for a number)."""
    if name.isascii() and name.isdigit():
        return _number(name, "--chown"), []
    try:
        text = root.read_file(file, _LIMIT).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        text = ""
    for line in text.split("\n"):
        fields = line.split(":")
        if fields[0] == name and len(fields) > 2:
            return _number(fields[2], f"/{file}: {name}"), fields
    raise AcbuildError(f"--chown: the image's /{file} has no {name!r}", hint="give a number")


def _number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10) or int(text) > _HIGHEST:
        raise AcbuildError(f"{what}: {text!r} is no ID between 0 and {_HIGHEST}")
    return int(text)
