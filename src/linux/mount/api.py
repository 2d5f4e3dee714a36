"""Mount system calls: the classic ones, the descriptor-based ones of Linux 5.2 and 5.12, and bridges over
both.

The descriptor-based calls are what a runtime needs: a mount is made detached (nobody sees it), gets its
attributes, and is attached to a directory by fd, so that no path is resolved twice. `bind_at` and `mount_at`
do that and fall back to the classic calls on /proc/self/fd where a kernel has no fsopen, open_tree or
mount_setattr.

Measured on Linux 6.18, root in the initial user namespace, store on ext4:

* A detached mount (open_tree with a copy, fsmount) made outside can be attached (move_mount) by a process in
  a child user namespace, in a mount namespace which that owns, when it has inherited the mount's fd. Its
  attributes are not locked there: who has CAP_SYS_ADMIN in the child may clear read-only again.
* proc, sysfs (with a network namespace of the same owner), cgroup2, mqueue, devpts and tmpfs can be made in
  a user namespace's own pid, net, cgroup and ipc namespaces; proc and sysfs only while a fully visible one
  is in the mounter's mount namespace (mount_too_revealing): make them before the old root goes.
"""

from __future__ import annotations

import errno
import os
import struct

from linux.libc import syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class MountFlag:
    """Flags of mount(2), as plain ints: importing enum would cost as much as starting a small pod."""

    NONE = 0
    RDONLY = 0x1
    NOSUID = 0x2
    NODEV = 0x4
    NOEXEC = 0x8
    REMOUNT = 0x20
    NOSYMFOLLOW = 0x100
    NOATIME = 0x400
    BIND = 0x1000
    MOVE = 0x2000
    REC = 0x4000
    SILENT = 0x8000
    UNBINDABLE = 0x20000
    PRIVATE = 0x40000
    SLAVE = 0x80000
    SHARED = 0x100000
    RELATIME = 0x200000
    STRICTATIME = 0x1000000


class UmountFlag:
    """Flags of umount2(2)."""

    NONE = 0
    FORCE = 1
    DETACH = 2
    EXPIRE = 4
    NOFOLLOW = 8


class Attribute:
    """MOUNT_ATTR_... of mount_setattr(2) and fsmount(2), with the kernel's names."""

    NONE = 0
    RDONLY = 0x1
    NOSUID = 0x2
    NODEV = 0x4
    NOEXEC = 0x8
    NOATIME = 0x10
    IDMAP = 0x100000
    NOSYMFOLLOW = 0x200000


MNT_DETACH = UmountFlag.DETACH

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

_OPEN_TREE_CLONE = 1
_MOVE_F_EMPTY_PATH = 0x4
_MOVE_T_EMPTY_PATH = 0x40
_FSOPEN_CLOEXEC = 1
_FSMOUNT_CLOEXEC = 1
_SET_FLAG, _SET_STRING, _SET_FD, _CMD_CREATE = 0, 1, 5, 6

# An attribute and the mount(2) flag that means the same: for the fall-backs.
_CLASSIC = (
    (Attribute.RDONLY, MountFlag.RDONLY),
    (Attribute.NOSUID, MountFlag.NOSUID),
    (Attribute.NODEV, MountFlag.NODEV),
    (Attribute.NOEXEC, MountFlag.NOEXEC),
    (Attribute.NOATIME, MountFlag.NOATIME),
    (Attribute.NOSYMFOLLOW, MountFlag.NOSYMFOLLOW),
)


def mount(source: str, target: str, fstype: str = "", flags: int = 0, options: str | None = None) -> None:
    """Mount `source` on `target`, as mount(2) does; OSError names both paths.

    Needs CAP_SYS_ADMIN in the user namespace that owns the caller's mount namespace. The kernel ignores
    every flag but REC next to BIND: a read-only bind takes a second, remounting call.
    """
    syscall("mount", source, target, fstype or None, flags, options or None, path=source, path2=target)


def umount(target: str, flags: int = 0) -> None:
    """umount2(2) with UmountFlag bits. A link at `target` is followed unless NOFOLLOW is among them."""
    syscall("umount2", target, flags, path=target)


def set_propagation(target: str, flags: int) -> None:
    """Change the propagation of `target`: PRIVATE, SLAVE, SHARED or UNBINDABLE, with REC for all below."""
    syscall("mount", None, target, None, flags, None, path=target)


def open_tree(path: str, *, dir_fd: int = AT_FDCWD, clone: bool = True, recursive: bool = False) -> int:
    """open_tree(2): an fd of the mount at `path`; with `clone` a detached copy of it that nobody else sees.

    "" as `path` means `dir_fd` itself. A link at the end is not followed. A copy that is not recursive is
    refused (EINVAL) when the caller's mount namespace came from a more privileged one and something is
    mounted below `path`: it would uncover what is hidden there.
    """
    flags = os.O_CLOEXEC | AT_SYMLINK_NOFOLLOW | (0 if path else AT_EMPTY_PATH)
    if clone:
        flags |= _OPEN_TREE_CLONE | (AT_RECURSIVE if recursive else 0)
    return syscall("open_tree", dir_fd, path, flags, path=path or f"fd {dir_fd}")


def move_mount(fd: int, path: str = "", *, to_fd: int = AT_FDCWD) -> None:
    """Attach the detached mount `fd` at `path` relative to `to_fd`; at `to_fd` itself if `path` is empty.

    A link at the end of `path` is not followed (ENOTDIR, or EINVAL).
    """
    flags = _MOVE_F_EMPTY_PATH | (0 if path else _MOVE_T_EMPTY_PATH)
    syscall("move_mount", fd, "", to_fd, path, flags, path=path or f"fd {to_fd}")


def mount_setattr(
    fd: int,
    path: str = "",
    *,
    set_: int = 0,
    clear: int = 0,
    propagation: int = 0,
    userns_fd: int = 0,
    recursive: bool = False,
) -> None:
    """mount_setattr(2), Linux 5.12: change the attributes of the mount at `fd` (or at `path` below it).

    `propagation` is MountFlag.PRIVATE, SLAVE or SHARED. With Attribute.IDMAP, `userns_fd` gives the mapping;
    that needs a detached mount that was never attached, CAP_SYS_ADMIN in the user namespace of its
    filesystem, and a filesystem that can (EINVAL else).
    """
    how = struct.pack("QQQQ", set_, clear, propagation, userns_fd)
    flags = AT_SYMLINK_NOFOLLOW | (0 if path else AT_EMPTY_PATH) | (AT_RECURSIVE if recursive else 0)
    syscall("mount_setattr", fd, path, flags, how, len(how), path=path or f"fd {fd}")


def filesystem(
    fstype: str,
    options: Iterable[tuple[str, str | int | None]] = (),
    *,
    attributes: int = 0,
    source: str | None = None,
) -> int:
    """Make a new filesystem and a detached mount of it; the mount's fd.

    An option's value is a text, an int (an fd: FSCONFIG_SET_FD) or None (a flag). The kernel's own
    explanation, which it leaves in the context's log, becomes part of the error.
    """
    context = syscall("fsopen", fstype, _FSOPEN_CLOEXEC, path=fstype)
    try:
        if source is not None:
            syscall("fsconfig", context, _SET_STRING, "source", source, 0, path=fstype)
        for key, value in options:
            _configure(context, f"{fstype} option {key}", key, value)
        syscall("fsconfig", context, _CMD_CREATE, None, None, 0, path=fstype)
        return syscall("fsmount", context, _FSMOUNT_CLOEXEC, attributes, path=fstype)
    except OSError as failed:
        told = _log(context)
        if told:
            text = f"{failed.strerror} ({told})"
            raise OSError(failed.errno, text, failed.filename) from None
        raise
    finally:
        os.close(context)


def _configure(context: int, where: str, key: str, value: str | int | None) -> None:
    if value is None:
        syscall("fsconfig", context, _SET_FLAG, key, None, 0, path=where)
    elif isinstance(value, int):
        syscall("fsconfig", context, _SET_FD, key, None, value, path=where)
    else:
        syscall("fsconfig", context, _SET_STRING, key, value, 0, path=where)


def _log(context: int) -> str:
    """What the kernel left to say about a filesystem context: one message a read, "e " in front of errors."""
    lines = []
    while True:
        try:
            line = os.read(context, 1024)
        except OSError:
            break
        if not line:
            break
        lines.append(line.decode("utf-8", "replace").strip().split(" ", 1)[-1])
    return "; ".join(lines)


def mount_at(
    target_fd: int,
    fstype: str,
    options: Iterable[tuple[str, str | int | None]] = (),
    *,
    attributes: int = 0,
    source: str | None = None,
) -> None:
    """Mount a new filesystem on the O_PATH fd `target_fd`; before Linux 5.2 by way of /proc/self/fd."""
    try:
        fd = filesystem(fstype, options, attributes=attributes, source=source)
    except OSError as failed:
        if failed.errno != errno.ENOSYS:
            raise
        text = ",".join(
            key if value is None else f"{key}={_fd_path(value) if isinstance(value, int) else value}"
            for key, value in options
        )
        mount(source or fstype, _fd_path(target_fd), fstype, _classic_flags(attributes), text)
        return
    try:
        move_mount(fd, to_fd=target_fd)
    finally:
        os.close(fd)


def bind_at(source_fd: int, target_fd: int, attributes: int = 0, *, recursive: bool = False) -> None:
    """Bind what `source_fd` (O_PATH) is to `target_fd`, privately, with `attributes` on every mount of it."""
    try:
        fd = open_tree("", dir_fd=source_fd, recursive=recursive)
    except OSError as failed:
        if failed.errno != errno.ENOSYS:
            raise
        _classic_bind(source_fd, target_fd, attributes, recursive=recursive)
        return
    try:
        mount_setattr(fd, set_=attributes, propagation=MountFlag.PRIVATE, recursive=recursive)
        move_mount(fd, to_fd=target_fd)
    finally:
        os.close(fd)


def _classic_bind(source_fd: int, target_fd: int, attributes: int, *, recursive: bool) -> None:
    """mount(2) on /proc/self/fd. Mounts below a recursive bind keep their flags: it knows no better."""
    target = _fd_path(target_fd)
    above = os.readlink(target)  # the fd keeps showing the directory below the new mount, so use its path
    mount(_fd_path(source_fd), target, "", MountFlag.BIND | (MountFlag.REC if recursive else 0))
    set_propagation(above, MountFlag.PRIVATE | (MountFlag.REC if recursive else 0))
    if attributes:
        mount("none", above, "", MountFlag.BIND | MountFlag.REMOUNT | _classic_flags(attributes))


def _classic_flags(attributes: int) -> int:
    return sum(flag for attribute, flag in _CLASSIC if attributes & attribute)


def _fd_path(fd: int) -> str:
    return f"/proc/self/fd/{fd}"
