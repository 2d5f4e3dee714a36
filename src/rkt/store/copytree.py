"""Copying a rendered tree, for pods that cannot use an overlay: everything about the files is kept."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE = 1 << 20


def copy(source: str, target: str) -> None:
    """Copy the directory `source` to the new directory `target`.

    Owners, modes, times, links, hard links and extended attributes are kept, devices are left out. Works by
    directory fds on both sides. Not durable; OSError names the file, and leaves what was copied until then.
    """
    from appc.aci.tree import Walk
    from appc.aci.unpack import Unpacker

    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    os.mkdir(target, 0o700)
    reading = os.open(source, flags)
    try:
        writing = os.open(target, flags)
        try:
            unpacker = Unpacker(writing, owners=os.geteuid() == 0)
            for entry, fd in Walk(reading, b""):
                unpacker.add(entry, _content(fd) if fd >= 0 else ())
            unpacker.finish()
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _content(fd: int) -> Iterator[memoryview]:
    while data := os.read(fd, _PIECE):
        yield memoryview(data)
