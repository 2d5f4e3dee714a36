"""Files that matter until the next boot at most: replaced atomically, never synced.

What they speak of (interfaces, rules, processes) is gone after a power cut, and they are then not believed.
A process that is killed leaves the old file or the new one, which is all that is needed here.
"""

from __future__ import annotations

import os


def replace(path: str, data: bytes, mode: int = 0o600) -> None:
    """Make `path` a file that holds `data`; its directory must exist. Raises OSError.

    A symbolic link at `path` is replaced, not followed.
    """
    directory, _, name = path.rpartition("/")
    temporary = f"{directory}/.{name[:100]}-{os.getpid()}-{os.urandom(4).hex()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        with open(fd, "wb") as file:
            file.write(data)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
