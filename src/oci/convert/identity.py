"""Users and groups of Docker's configurations (``USER`` in a Dockerfile) as appc has them.

Docker gives a user without a group the primary group that the image's /etc/passwd says, and group 0 to one
that is not there. appc wants both. docker2aci took the user's name for the group's.
"""

from __future__ import annotations

from appc.types.volumes import HIGHEST_ID

_DIGITS = "0123456789"
ROOT = "0"


def needs_passwd(user: str) -> bool:
    """Whether the image's /etc/passwd decides about the group."""
    name, _, group = user.partition(":")
    return bool(name) and not group.partition(":")[0] and not name.startswith("/")


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
    return name, _primary_group(name, passwd)


def _primary_group(name: str, passwd: bytes) -> str:
    """The fourth field of the first line that is about `name`; of a number also by its third (as Docker)."""
    number = int(name) if _is_number(name) else None
    for line in passwd.split(b"\n"):
        fields = line.decode("utf-8", "replace").split(":")
        if len(fields) < 4 or not _is_number(fields[2]) or not _is_number(fields[3]):
            continue
        if fields[0] == name or (number is not None and int(fields[2]) == number):
            return str(int(fields[3]))
    return ROOT if number is not None else name


def _is_number(text: str) -> bool:
    return 0 < len(text) <= 10 and not text.strip(_DIGITS) and int(text) <= HIGHEST_ID
