"""As whom an app runs: numbers, names of the image's own /etc/passwd and /etc/group, owners of files (R17).

The image's files are hostile. They are read inside the app's root, regular files only, at most 1 MiB; no code
of the image and no name service of the host takes part. Digits are a number and are never looked up
(CVE-2016-3697); a number outside 0 to 2^32-2 is refused, not wrapped (CVE-2024-40635); the first line with
the name counts, and when that line is broken the name is refused, whatever a later one says.
"""

from __future__ import annotations

import os

from linux.named_tuple import NamedTuple
from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from linux.paths import Root

HIGHEST_ID = 2**32 - 2  # 2^32 - 1 means "no change" to setresuid(2)
_FILE_LIMIT = 1 << 20
_LONGEST_PATH = 4096


class Identity(NamedTuple):
    """Numbers, and the home directory that /etc/passwd gives the user ("" when it says nothing usable)."""

    uid: int
    gid: int
    home: str


def resolve(root: Root, user: str, group: str, *, group_may_be_missing: bool = False) -> Identity:
    """The identity that `user` and `group` mean in the app's `root`.

    `group_may_be_missing` makes an unknown group the user's own number, as rkt does for images converted
    from Docker, which name no group. RktError with rkt's words (`invalid user "x"`) otherwise.
    """
    home = ""
    uid = _number(user)
    if uid is None and user.startswith("/"):
        uid = _owner(root, "user", user).st_uid
    elif uid is None:
        uid, home = _user(root, user)
    gid = _number(group)
    if gid is None and group.startswith("/"):
        gid = _owner(root, "group", group).st_gid
    elif gid is None:
        gid = _group(root, group)
    if gid is None:
        if not group_may_be_missing:
            raise RktError(f'invalid group "{group}"', hint="the image's /etc/group has no such group")
        gid = uid
    return Identity(uid, gid, home or _home_of(root, uid))


def _number(word: str) -> int | None:
    """The number that `word` is, None when it is a name or a path. RktError for one out of range."""
    if not word or word.strip("0123456789"):
        return None
    number = int(word) if len(word) <= 20 else HIGHEST_ID + 1
    if number > HIGHEST_ID:
        raise RktError(f'invalid user or group "{word[:40]}": IDs go up to {HIGHEST_ID}')
    return number


def _owner(root: Root, kind: str, path: str) -> os.stat_result:
    try:
        fd = root.open_file(path, os.O_PATH)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RktError(f'invalid {kind} "{path}": {reason}') from error
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


def _user(root: Root, name: str) -> tuple[int, str]:
    fields = _entry(root, "user", "/etc/passwd", name)
    if fields is None:
        raise RktError(f'invalid user "{name}"', hint="the image's /etc/passwd has no such user")
    uid = _field(fields, 2)
    if uid is None:
        raise RktError(f'invalid user "{name}": its line in the image\'s /etc/passwd has no proper number')
    return uid, _home(fields)


def _group(root: Root, name: str) -> int | None:
    fields = _entry(root, "group", "/etc/group", name)
    if fields is None:
        return None
    gid = _field(fields, 2)
    if gid is None:
        raise RktError(f'invalid group "{name}": its line in the image\'s /etc/group has no proper number')
    return gid


def _entry(root: Root, kind: str, path: str, name: str) -> list[str] | None:
    """The fields of the first line for `name`; None without one, or without the file."""
    if ":" in name or "\n" in name:
        return None
    wanted = f"{name}:"
    for line in _lines(root, kind, path, name):
        if line.startswith(wanted):
            return line.split(":")
    return None


def _lines(root: Root, kind: str, path: str, name: str) -> list[str]:
    try:
        return root.read_file(path, _FILE_LIMIT).decode("utf-8", "surrogateescape").split("\n")
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RktError(f'invalid {kind} "{name}": the image\'s {path} cannot be read: {reason}') from error


def _field(fields: list[str], place: int) -> int | None:
    word = fields[place] if len(fields) > place else ""
    if not word or word.strip("0123456789") or len(word) > 20 or int(word) > HIGHEST_ID:
        return None
    return int(word)


def _home_of(root: Root, uid: int) -> str:
    """The home of the first user with the number `uid`: a convenience, so any difficulty means none."""
    try:
        lines = _lines(root, "user", "/etc/passwd", str(uid))
    except RktError:
        return ""
    for line in lines:
        fields = line.split(":")
        if _field(fields, 2) == uid:
            return _home(fields)
    return ""


def _home(fields: list[str]) -> str:
    """The home directory of a line, unless it could do harm in the environment (CVE-2026-15809)."""
    home = fields[5] if len(fields) > 5 else ""
    return home if home.startswith("/") and home.isprintable() and len(home) < _LONGEST_PATH else ""
