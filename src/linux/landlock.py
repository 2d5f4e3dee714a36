"""Landlock: a process gives up, for ever, every access to files that it does not name (Linux 5.13).

The kernel walks from a file up to the root and needs one directory on the way that a rule names. Descriptors
opened earlier keep their rights; a file renamed or linked into a directory is judged by where it goes.
Source: Documentation/userspace-api/landlock.rst, include/uapi/linux/landlock.h.
"""

from __future__ import annotations

import os
import struct

from linux import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

EXECUTE = 1 << 0
WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_DIR = 1 << 3
REMOVE_DIR = 1 << 4
REMOVE_FILE = 1 << 5
MAKE_CHAR = 1 << 6
MAKE_DIR = 1 << 7
MAKE_REG = 1 << 8
MAKE_SOCK = 1 << 9
MAKE_FIFO = 1 << 10
MAKE_BLOCK = 1 << 11
MAKE_SYM = 1 << 12
REFER = 1 << 13
TRUNCATE = 1 << 14
IOCTL_DEV = 1 << 15

#: What it takes to read a tree, and to build one of files, directories, links and fifos.
READ = READ_FILE | READ_DIR
BUILD = READ | WRITE_FILE | TRUNCATE | REMOVE_DIR | REMOVE_FILE
BUILD |= MAKE_DIR | MAKE_REG | MAKE_FIFO | MAKE_SYM | REFER

_HIGHEST_RIGHT = {1: 12, 2: 13, 3: 14, 4: 14}  # by version; 15 from version 5 on
_NETWORK = 3  # bind and connect of TCP, version 4
_SCOPES = 3  # abstract unix sockets and signals of other processes, version 6
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1


def version() -> int:
    """The version of Landlock in the running kernel; 0 where it is missing or switched off."""
    try:
        return libc.syscall("landlock_create_ruleset", None, 0, _VERSION_FLAG)
    except OSError:
        return 0


def restrict(rules: Iterable[tuple[int, int]]) -> int:
    """From now on the calling thread reaches only what `rules`, pairs of (directory fd, rights), allow.

    Also no TCP, and neither abstract sockets nor signals of processes outside, where the kernel can. Returns
    the kernel's version, 0 when there is no Landlock and nothing was done. Sets no_new_privs, as it must.
    """
    found = version()
    if not found:
        return 0
    handled = (1 << (_HIGHEST_RIGHT.get(found, 15) + 1)) - 1
    attributes = struct.pack("=Q", handled)
    if found >= 4:
        attributes += struct.pack("=Q", _NETWORK)
    if found >= 6:
        attributes += struct.pack("=Q", _SCOPES)
    ruleset = libc.syscall("landlock_create_ruleset", attributes, len(attributes), 0, path="landlock")
    try:
        for fd, rights in rules:
            rule = struct.pack("=Qi", rights & handled, fd)
            libc.syscall("landlock_add_rule", ruleset, _RULE_PATH_BENEATH, rule, 0, path="landlock rule")
        libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
        libc.syscall("landlock_restrict_self", ruleset, 0, path="landlock")
    finally:
        os.close(ruleset)
    return found
