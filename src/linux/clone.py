"""A fork into new namespaces in one step: clone(2) without a stack, as fork(2) does it.

os.fork followed by unshare(2) cannot make the child PID 1 of a new PID namespace, and unshare in the parent
would put every later child of the parent there. The interpreter is told of the fork exactly as os.fork
tells it, so that the child is an ordinary forked Python process.
"""

from __future__ import annotations

import ctypes
import os

from linux import libc
from linux.namespaces import NEWCGROUP, NEWIPC, NEWNET, NEWNS, NEWPID, NEWUSER, NEWUTS

__all__ = ["NEWCGROUP", "NEWIPC", "NEWNET", "NEWNS", "NEWPID", "NEWUSER", "NEWUTS", "clone"]

_SIGCHLD = 17
_NO_SETUID_FIXUP = 4  # a change of user leaves the capabilities as they are

# PyDLL keeps the interpreter's lock over the call: in the child nobody would be there to give it back.
_python = ctypes.PyDLL(None, use_errno=True)
_python.syscall.restype = ctypes.c_long


def clone(flags: int, *, owner: int = 0) -> int:
    """Fork into the new namespaces that `flags` (NEW… constants) name: 0 in the child, else the child's pid.

    `owner` is the user ID that a new user namespace belongs to, and the child's effective one until it takes
    another. What is made in the namespace counts against that user's limits too: inotify instances, queued
    signals, further namespaces. The caller is root, with a single thread as for any fork. Raises OSError, for
    example EPERM, or ENOSPC when /proc/sys/user/max_*_namespaces is reached.
    """
    if not owner:
        return _clone(flags)
    dumpable = libc.prctl(libc.PR_GET_DUMPABLE)
    # With its capabilities kept: some hosts let nobody else make a user namespace.
    bits = libc.prctl(libc.PR_GET_SECUREBITS)
    libc.prctl(libc.PR_SET_SECUREBITS, bits | _NO_SETUID_FIXUP)
    pid = -1
    try:
        _set_effective_user(owner, dumpable)
        pid = _clone(flags)
    finally:
        if pid:
            _set_effective_user(0, dumpable)
            libc.prctl(libc.PR_SET_SECUREBITS, bits)
    return pid


def _set_effective_user(uid: int, dumpable: int) -> None:
    """seteuid(2), which leaves a process undumpable that was not."""
    os.seteuid(uid)
    if dumpable == 1:
        libc.prctl(libc.PR_SET_DUMPABLE, 1)


def _clone(flags: int) -> int:
    number = ctypes.c_long(libc.number("clone"))
    api = ctypes.pythonapi
    api.PyOS_BeforeFork()
    pid = int(_python.syscall(number, ctypes.c_ulong(flags | _SIGCHLD), None, None, None, None))
    error = ctypes.get_errno()
    if pid == 0:
        api.PyOS_AfterFork_Child()
        return 0
    api.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(error, os.strerror(error), "clone")
    return pid
