"""Mounts whose owners are mapped: files belong to a pod's users without a chown on disk (Linux 5.12).

Measured on Linux 6.18: ext4 and tmpfs can; proc, sysfs, devtmpfs, cgroup and overlay itself cannot (EINVAL).
A process outside the map, the host's root included, cannot create anything through such a mount (EOVERFLOW):
its own ID has no place on the disk. See `acting_as`.
"""

from __future__ import annotations

import errno
import os

from linux import libc
from linux.mount import api

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

_SECBIT_NO_SETUID_FIXUP = 4
# What a kernel or a filesystem answers that cannot map: no mount_setattr at all, no support, not permitted
# for the filesystem's own user namespace.
CANNOT = (errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.EOPNOTSUPP)


def mapped(path: str, userns_fd: int | None, *, recursive: bool = False, dir_fd: int = api.AT_FDCWD) -> int:
    """A detached, private copy of the mount at `path`, its owners mapped into `userns_fd` if that is given.

    ``stat`` through it shows each owner as the ID that the user namespace maps it to. The caller needs
    CAP_SYS_ADMIN over the filesystem. OSError with an errno of CANNOT when this cannot be had here.
    """
    fd = api.open_tree(path, dir_fd=dir_fd, recursive=recursive)
    try:
        if userns_fd is None:
            api.mount_setattr(fd, propagation=api.MountFlag.PRIVATE, recursive=recursive)
        else:
            api.mount_setattr(
                fd,
                set_=api.Attribute.IDMAP,
                propagation=api.MountFlag.PRIVATE,
                userns_fd=userns_fd,
                recursive=recursive,
            )
    except OSError as failed:
        os.close(fd)
        failed.filename = path
        raise
    return fd


def supported(path: str) -> bool:
    """Whether the filesystem of `path` can map owners, tried with a user namespace made for the purpose."""
    from linux import namespaces

    userns = namespaces.user_namespace([(0, 1 << 20, 1)], [(0, 1 << 20, 1)])
    try:
        os.close(mapped(path, userns))
    except OSError as failed:
        if failed.errno in CANNOT:
            return False
        raise
    finally:
        os.close(userns)
    return True


class acting_as:
    """``with acting_as(uid, gid):`` file accesses are made with these IDs and all of root's capabilities.

    For work through a mapped mount on behalf of its root user. setfsuid(2) takes the filesystem capabilities
    away when it leaves root, unless the secure bit NO_SETUID_FIXUP is set, as it is in between. Only this
    thread changes.
    """

    __slots__ = ("_bits", "gid", "uid")

    def __init__(self, uid: int, gid: int) -> None:
        self.uid = uid
        self.gid = gid
        self._bits = 0

    def __enter__(self) -> None:
        self._bits = libc.prctl(libc.PR_GET_SECUREBITS)
        libc.prctl(libc.PR_SET_SECUREBITS, self._bits | _SECBIT_NO_SETUID_FIXUP)
        libc.syscall("setfsgid", self.gid)
        libc.syscall("setfsuid", self.uid)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        libc.syscall("setfsuid", os.geteuid())
        libc.syscall("setfsgid", os.getegid())
        libc.prctl(libc.PR_SET_SECUREBITS, self._bits)
