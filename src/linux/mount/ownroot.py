"""Make the caller's root directory the root of a mount namespace of its own.

In a chroot the kernel refuses user namespaces (EPERM) and pivot_root (EINVAL when the directory is no
mount), and the mounts outside stay in reach. After `enter` the root directory is a mount, it is the
namespace's root, and nothing outside of it is in the namespace any more.
"""

from __future__ import annotations

import os

from linux import namespaces
from linux.libc import pivot_root
from linux.mount import api


def enter(flags: int = 0) -> None:
    """Unshare the mount namespace (and those of `flags`) and root it at the present root directory.

    Mounts made outside later still appear inside (slaves), none made inside appears outside. Works without
    /proc. Needs CAP_SYS_ADMIN and CAP_SYS_CHROOT, and Linux 5.8. The working directory becomes the root.
    """
    namespaces.unshare(namespaces.NEWNS | flags)
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        me = os.pidfd_open(os.getpid())
        try:
            # To join a namespace, even one's own, takes one to its true root.
            namespaces.setns(me, namespaces.NEWNS)
        finally:
            os.close(me)
        api.set_propagation("/", api.MountFlag.SLAVE | api.MountFlag.REC)
        copy = api.open_tree("", dir_fd=root, recursive=True)
        try:
            api.move_mount(copy, to_fd=root)
            os.fchdir(copy)
        finally:
            os.close(copy)
        pivot_root(".", ".")
        api.umount(".", api.UmountFlag.DETACH)
        os.chdir("/")
    finally:
        os.close(root)
