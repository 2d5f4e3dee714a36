"""seccomp filters: policies by name, an own BPF writer, installation in the calling thread.

`policy()` says what is wanted, `compile()` makes the program (plain bytes: it may be made before a fork and
stored), `install()` is the last thing a process does before it runs a foreign program.
"""

from __future__ import annotations

import os

from linux.seccomp.rules import Policy, policy

__all__ = ["Policy", "compile", "default_policy", "install", "policy"]

_SET_MODE_FILTER = 1


def default_policy(capabilities: int = 0) -> Policy:
    """The policy of an app that asks for none; `capabilities` is the mask of those it keeps."""
    return policy(capabilities=capabilities)


def compile(wanted: Policy, machine: str | None = None) -> bytes:
    """The program for `wanted`, for this machine or for `machine` (`x86_64`, `aarch64`).

    Raises ValueError when `wanted.off`: having no filter is the caller's decision, never an empty program
    (CVE-2023-2431).
    """
    from linux.seccomp.rules import compiled

    return compiled(wanted, machine or os.uname().machine)


def install(program: bytes) -> None:
    """Put `program` on the calling thread and all it will become: it cannot be taken off again.

    Needs no_new_privs or CAP_SYS_ADMIN in the caller's user namespace (EACCES otherwise). ValueError for
    an empty program or one cut short.
    """
    import ctypes

    from linux import libc

    if not program or len(program) % 8:
        raise ValueError(f"a seccomp program of {len(program)} bytes")

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    libc.syscall("seccomp", _SET_MODE_FILTER, 0, Program(len(program) // 8, program), path="seccomp filter")
