"""Files that matter until the next boot at most: replaced atomically, never synced.

What they speak of (interfaces, rules, processes) is gone after a power cut, and they are then not believed.
A process that is killed leaves the old file or the new one, which is all that is needed here.
"""

from __future__ import annotations

import os

_PREFIX = ".new-"


def replace(path: str, data: bytes, mode: int = 0o600) -> None:
    """Make `path` a file that holds `data`; its directory must exist. Raises OSError.

    A symbolic link at `path` is replaced, not followed.
    """
    directory, _, name = path.rpartition("/")
    temporary = f"{directory}/{_PREFIX}{os.getpid()}-{os.urandom(4).hex()}-{name[:100]}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        try:
            rest = data
            while rest:
                rest = rest[os.write(fd, rest) :]
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def collect(directory: str) -> None:
    """Remove what killed calls of `replace` left in `directory`, which may be missing."""
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        pid = name.removeprefix(_PREFIX).partition("-")[0]
        if name.startswith(_PREFIX) and not _runs(pid):
            try:
                os.unlink(f"{directory}/{name}")
            except FileNotFoundError:
                continue


def _runs(pid: str) -> bool:
    """Whether there is a process of that number that can still do something: a zombie cannot."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            return file.read(4096).rpartition(b") ")[2][:1] not in b"ZX"
    except OSError:
        return False
