"""The identity under which the kernel makes files for a process (setfsuid(2)), apart from who it is."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from linux import capabilities, libc

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def making_files_as(uid: int, gid: int) -> Iterator[None]:
    """Have the kernel act on files as `uid` and `gid`, with all capabilities that root has.

    A filesystem keeps the credentials of whoever mounted it: an overlay makes its work files with them. On
    layers that are mapped into a user namespace root itself is nobody (EOVERFLOW, and so a read-only
    overlay); its mapped counterpart is somebody. The kernel takes the file capabilities away from a process
    whose file system user ID is not root's; they are permitted still, so they are taken back.
    """
    before = capabilities.read()
    libc.syscall("setfsgid", gid)
    libc.syscall("setfsuid", uid)
    try:
        capabilities.set_all(before.permitted, before.permitted, before.inheritable)
        yield
    finally:
        libc.syscall("setfsuid", 0)
        libc.syscall("setfsgid", 0)
        capabilities.set_all(before.effective, before.permitted, before.inheritable)
