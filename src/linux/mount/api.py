"""mount(2) and the file-descriptor based mount calls of Linux 5.2 and later, as they are.

Policy belongs to the caller. Every call raises OSError that names what it was about. The traps that the
kernel's documentation leaves out are in the docstrings.
"""

from __future__ import annotations

import ctypes
import os
from enum import IntFlag

from linux import libc


class MountFlag(IntFlag):
    """Flags of mount(2), with the kernel's names (include/uapi/linux/mount.h)."""

    NONE = 0
    RDONLY = 1
    NOSUID = 2
    NODEV = 4
    NOEXEC = 8
    REMOUNT = 32
    NOATIME = 1024
    BIND = 4096
    MOVE = 8192
    REC = 16384
    UNBINDABLE = 1 << 17
    PRIVATE = 1 << 18
    SLAVE = 1 << 19
    SHARED = 1 << 20
    RELATIME = 1 << 21
    STRICTATIME = 1 << 24


class UmountFlag(IntFlag):
    """Flags of umount2(2)."""

    NONE = 0
    FORCE = 1
    DETACH = 2
    EXPIRE = 4
    NOFOLLOW = 8


class Attribute(IntFlag):
    """MOUNT_ATTR_… of mount_setattr(2) and fsmount(2)."""

    NONE = 0
    RDONLY = 1
    NOSUID = 2
    NODEV = 4
    NOEXEC = 8
    NOATIME = 0x10
    IDMAP = 0x00100000
    NOSYMFOLLOW = 0x00200000


_AT_RECURSIVE = 0x8000
_AT_EMPTY_PATH = 0x1000
_OPEN_TREE_CLONE = 1
_MOVE_FROM_EMPTY, _MOVE_TO_EMPTY = 0x04, 0x40
_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = 1
_SET_FLAG, _SET_STRING, _SET_FD, _CREATE = 0, 1, 5, 6


def mount(
    source: str, target: str, fstype: str = "", flags: int = MountFlag.NONE, options: str | None = None
) -> None:
    """Mount `source` on `target`, as mount(2) does.

    The kernel ignores every flag but REC next to BIND: a read-only bind takes a second, remounting call.
    """
    libc.syscall("mount", source, target, fstype or None, int(flags), options, path=target)


def umount(target: str, flags: int = UmountFlag.NONE) -> None:
    """umount2(2)."""
    libc.syscall("umount2", target, int(flags), path=target)


def set_propagation(target: str, flags: int) -> None:
    """Change the propagation of `target`: PRIVATE, SLAVE, SHARED or UNBINDABLE, with REC for all below."""
    libc.syscall("mount", None, target, None, int(flags), None, path=target)


def open_tree(path: str, *, dir_fd: int = -100, clone: bool = True, recursive: bool = False) -> int:
    """A descriptor of the mount at `path`; with `clone` a detached copy of it that nobody else sees.

    An empty `path` means `dir_fd` itself. A copy that is not recursive is refused (EINVAL) when the
    caller's mount namespace came from a more privileged one and something is mounted below `path`.
    """
    flags = os.O_CLOEXEC | (_OPEN_TREE_CLONE if clone else 0)
    flags |= (_AT_RECURSIVE if recursive else 0) | (0 if path else _AT_EMPTY_PATH)
    return libc.syscall("open_tree", dir_fd, path, flags, path=path or f"fd {dir_fd}")


def move_mount(fd: int, path: str = "", *, to_fd: int = -100) -> None:
    """Attach the detached mount `fd` at `path` relative to `to_fd`; at `to_fd` itself if `path` is empty."""
    flags = _MOVE_FROM_EMPTY | (0 if path else _MOVE_TO_EMPTY)
    libc.syscall("move_mount", fd, "", to_fd, path, flags, path=path or f"fd {to_fd}")


class _Attributes(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def mount_setattr(
    fd: int,
    path: str = "",
    *,
    set_: int = Attribute.NONE,
    clear: int = Attribute.NONE,
    propagation: int = 0,
    userns_fd: int = 0,
    recursive: bool = False,
) -> None:
    """Change the attributes of the mount at `fd` (or at `path` below it).

    With Attribute.IDMAP, `userns_fd` gives the mapping; that needs a detached mount that was never attached,
    CAP_SYS_ADMIN in the user namespace of its filesystem, and a filesystem that can (EINVAL else).
    """
    attributes = _Attributes(int(set_), int(clear), int(propagation), userns_fd)
    flags = (_AT_RECURSIVE if recursive else 0) | (0 if path else _AT_EMPTY_PATH)
    libc.syscall(
        "mount_setattr",
        fd,
        path,
        flags,
        ctypes.byref(attributes),
        ctypes.sizeof(attributes),
        path=path or f"fd {fd}",
    )


def filesystem(
    fstype: str,
    options: tuple[tuple[str, str | int | None], ...] = (),
    *,
    attributes: int = Attribute.NONE,
    source: str | None = None,
) -> int:
    """Make a new filesystem and a detached mount of it; the mount's descriptor.

    An option's value is a string, an int (a descriptor: FSCONFIG_SET_FD) or None (a flag). The kernel's own
    explanation, which it leaves in the descriptor's log, becomes part of the error.
    """
    context = libc.syscall("fsopen", fstype, _FSOPEN_CLOEXEC, path=fstype)
    try:
        try:
            if source is not None:
                libc.syscall("fsconfig", context, _SET_STRING, "source", source, 0, path=fstype)
            for key, value in options:
                _configure(context, fstype, key, value)
            libc.syscall("fsconfig", context, _CREATE, None, None, 0, path=fstype)
            return libc.syscall("fsmount", context, _FSMOUNT_CLOEXEC, int(attributes), path=fstype)
        except OSError as error:
            told = _log(context)
            if told:
                raise OSError(error.errno, f"{error.strerror} ({told})", fstype) from None
            raise
    finally:
        os.close(context)


def _configure(context: int, fstype: str, key: str, value: str | int | None) -> None:
    where = f"{fstype} option {key}"
    if value is None:
        libc.syscall("fsconfig", context, _SET_FLAG, key, None, 0, path=where)
    elif isinstance(value, int):
        libc.syscall("fsconfig", context, _SET_FD, key, None, value, path=where)
    else:
        libc.syscall("fsconfig", context, _SET_STRING, key, value, 0, path=where)


def _log(context: int) -> str:
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
