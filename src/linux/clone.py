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

# PyDLL keeps the interpreter's lock over the call: in the child nobody would be there to give it back.
_python = ctypes.PyDLL(None, use_errno=True)
_python.syscall.restype = ctypes.c_long


def clone(flags: int) -> int:
    """Fork into the new namespaces that `flags` (NEW… constants) name: 0 in the child, else the child's pid.

    The caller must have a single thread, as with any fork. Raises OSError, for example EPERM, or ENOSPC when
    /proc/sys/user/max_*_namespaces is reached.
    """
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
