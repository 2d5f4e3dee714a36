"""Users and groups of Docker's configurations (``USER`` in a Dockerfile) as appc has them.

Docker gives a user without a group the primary group that the image's /etc/passwd says, and group 0 to one
that is not there; and those groups of the image's /etc/group that list the user. appc wants all of them said.
docker2aci took the user's name for the group's.
"""

from __future__ import annotations

from appc.types.volumes import HIGHEST_ID

_DIGITS = "0123456789"
ROOT = "0"
PASSWD, GROUP = b"etc/passwd", b"etc/group"


def needs_files(user: str) -> bool:
    """Whether the image's /etc/passwd and /etc/group decide about groups."""
    name, _, group = user.partition(":")
    return not group.partition(":")[0] and not name.startswith("/")


def user_and_group(user: str, passwd: bytes | None) -> tuple[str, str]:
    """appc's user and group for ``[USER][:GROUP]``; what follows a second colon means nothing.

    `passwd` is the content of the image's /etc/passwd, None where it has none: then nothing says what the
    group is, and the executor finds out (a number or name that is the user's own).
    """
    name, _, rest = user.partition(":")
    group = rest.partition(":")[0]
    if group:
        return name or ROOT, group
    if not name:
        return ROOT, ROOT
    if passwd is None or name.startswith("/"):
        return name, name
    known = _account(name, passwd)
    if known is not None:
        return name, known[1]
    return name, ROOT if _is_number(name) else name


def supplementary_groups(user: str, passwd: bytes | None, group: bytes | None) -> tuple[int, ...]:
    """The further groups of ``[USER][:GROUP]``: none where a group is given (Docker's rule)."""
    if passwd is None or group is None or not needs_files(user):
        return ()
    known = _account(user.partition(":")[0] or ROOT, passwd)
    if known is None:
        return ()
    found: dict[int, None] = {}
    for line in group.split(b"\n"):
        fields = line.decode("utf-8", "replace").split(":")
        if len(fields) > 3 and _is_number(fields[2]) and known[0] in fields[3].strip().split(","):
            found[int(fields[2])] = None
    return tuple(found)


def _account(name: str, passwd: bytes) -> tuple[str, str] | None:
    """Name and primary group in the first line about `name`; about a number also by its third field."""
    number = int(name) if _is_number(name) else None
    for line in passwd.split(b"\n"):
        fields = line.decode("utf-8", "replace").split(":")
        if len(fields) < 4 or not _is_number(fields[2]) or not _is_number(fields[3]):
            continue
        if fields[0] == name or (number is not None and int(fields[2]) == number):
            return fields[0], str(int(fields[3]))
    return None


def _is_number(text: str) -> bool:
    return 0 < len(text) <= 10 and not text.strip(_DIGITS) and int(text) <= HIGHEST_ID
