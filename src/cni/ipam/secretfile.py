"""A password or token in a file of its own, so that it is in no configuration, cache, record or message."""

from __future__ import annotations

import os
import stat

_LIMIT = 16 << 10  # bytes; a token of OpenID Connect has a few thousand


def read(path: str) -> str:
    """The file's text without the newline at its end; "" for the path "".

    Raises ValueError when it is missing, empty, not a regular file, of somebody else, or when anybody but
    its owner may read it: a secret that every user of the host knows is none. Symbolic links are followed
    (Kubernetes mounts secrets so); what they lead to is what is judged.
    """
    if not path:
        return ""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as failed:
        raise ValueError(f"{path} cannot be read: {failed.strerror}") from None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{path} is not a file")
        if found.st_uid not in (0, os.geteuid()):
            raise ValueError(f"{path} belongs to user {found.st_uid}, not to root")
        if found.st_mode & 0o077:
            mode = stat.S_IMODE(found.st_mode)
            raise ValueError(f"{path} has mode {mode:04o}: others than its owner may read it (chmod 600)")
        data = os.read(fd, _LIMIT + 1)
    finally:
        os.close(fd)
    text = data.decode("utf-8", "strict").removesuffix("\n").removesuffix("\r")
    if not text or len(data) > _LIMIT or any(ord(each) < 32 or ord(each) == 127 for each in text):
        raise ValueError(f"{path} does not hold one line of at most {_LIMIT} bytes")
    return text
