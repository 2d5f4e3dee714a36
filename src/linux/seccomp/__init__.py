"""seccomp filters: policies by name, an own BPF writer, installation in the calling thread.

`policy()` says what is wanted, `compile()` makes the program (plain bytes: it may be made before a fork and
stored), `install()` is the last thing a process does before it runs a foreign program.
"""

from __future__ import annotations

import os

from linux.seccomp.policies import DEFAULT, Policy, policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Policy", "compile", "default_policy", "install", "policy", "prepare"]

_SET_MODE_FILTER = 1
_HERE = os.path.dirname(__file__)
# The capabilities with a group of calls of their own in profile.txt, as a mask; a test compares.
_THAT_OPEN_CALLS = 0xC406FF0004
_SYS_CHROOT = 1 << 18


def default_policy(capabilities: int = 0) -> Policy:
    """The policy of an app that asks for none; `capabilities` is the mask of those it keeps."""
    return policy(capabilities=capabilities)


def compile(wanted: Policy, machine: str | None = None) -> bytes:
    """The program for `wanted`, for this machine or for `machine` (`x86_64`, `aarch64`).

    Raises ValueError when `wanted.off`: having no filter is the caller's decision, never an empty program
    (CVE-2023-2431).
    """
    machine = machine or os.uname().machine
    usual = wanted.mode == DEFAULT and wanted.compat and not wanted.socketcall
    if usual and wanted.capabilities & _THAT_OPEN_CALLS == _SYS_CHROOT:
        # The filter of nearly every app is there ready-made; compiling it would cost 3 ms of each start.
        try:
            with open(f"{_HERE}/tables/default.{machine}.bpf", "rb") as file:
                return file.read()
        except FileNotFoundError:
            pass
    from linux.seccomp.rules import compiled

    return compiled(wanted, machine)


def install(program: bytes) -> None:
    """Put `program` on the calling thread and all it will become: it cannot be taken off again.

    Needs no_new_privs or CAP_SYS_ADMIN in the caller's user namespace (PermissionError otherwise). ValueError
    for an empty program or one cut short.
    """
    prepare(program)()


def prepare(program: bytes) -> Callable[[], None]:
    """What installs `program` when it is called, without allocating anything then.

    After it the filter may forbid the very calls by which an interpreter gets memory.
    """
    import ctypes

    from linux import libc

    if not program or len(program) % 8:
        raise ValueError(f"a seccomp program of {len(program)} bytes")

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    native = ctypes.CDLL(None, use_errno=True).syscall
    native.restype = ctypes.c_long
    arguments = (
        ctypes.c_long(libc.number("seccomp")),
        ctypes.c_long(_SET_MODE_FILTER),
        ctypes.c_long(0),
        ctypes.byref(Program(len(program) // 8, program)),
    )

    def install_prepared() -> None:
        if native(*arguments) < 0:
            raise libc.error(ctypes.get_errno(), "seccomp filter")

    return install_prepared
