"""Capabilities: names and numbers, the five sets of a process, the bounding and the ambient set.

A set is an int, one bit per capability (bit 0 is CAP_CHOWN), as /proc/PID/status prints it.
Source: capabilities(7), include/uapi/linux/capability.h.
"""

from __future__ import annotations

import struct

from linux.named_tuple import NamedTuple

NAMES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
    "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT",
    "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE",
    "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN",
    "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip

SETPCAP = 8
SYS_ADMIN = 21

_VERSION_3 = 0x20080522
_AMBIENT_RAISE = 2
_AMBIENT_CLEAR_ALL = 4


def number(name: str) -> int:
    """The number of the capability `name`, such as ``CAP_CHOWN``. ValueError for an unknown one."""
    try:
        return NAMES.index(name)
    except ValueError:
        pass
    shouted = name.strip().upper()
    for spelling in (shouted, "CAP_" + shouted):
        if spelling in NAMES:
            raise ValueError(f"{name!r} is no known capability (did you mean {spelling}?)")
    raise ValueError(f"{name!r} is no known capability")


def mask(names: tuple[str, ...] | list[str] | frozenset[str]) -> int:
    """The set that holds the capabilities `names`. ValueError for an unknown one."""
    bits = 0
    for name in names:
        bits |= 1 << number(name)
    return bits


def names(bits: int) -> list[str]:
    """The names in the set `bits`, by number; one that is newer than this table is written ``CAP_41``."""
    return [
        NAMES[bit] if bit < len(NAMES) else f"CAP_{bit}"
        for bit in range(bits.bit_length())
        if bits >> bit & 1
    ]


def last() -> int:
    """The highest capability the running kernel knows (40 since Linux 5.9)."""
    try:
        with open("/proc/sys/kernel/cap_last_cap", "rb") as file:
            return int(file.read())
    except OSError:
        # No /proc here: ask for one after the other until the kernel has no more.
        from linux import libc

        bit = 0
        while True:
            try:
                libc.prctl(libc.PR_CAPBSET_READ, bit)
            except OSError:
                return bit - 1
            bit += 1


class Sets(NamedTuple):
    """The five sets of one thread, each an int."""

    effective: int
    permitted: int
    inheritable: int
    bounding: int
    ambient: int


def read(pid: int | str = "self") -> Sets:
    """The sets of the process `pid`, from /proc. FileNotFoundError when there is no such process."""
    values = {}
    # Bytes: a text file in ASCII would have the interpreter import a codec, from a container's root perhaps.
    with open(f"/proc/{pid}/status", "rb") as status:
        for line in status:
            if line.startswith(b"Cap"):
                key, value = line.split(b":")
                values[key] = int(value, 16)
    return Sets(
        values[b"CapEff"], values[b"CapPrm"], values[b"CapInh"], values[b"CapBnd"], values.get(b"CapAmb", 0)
    )


def drop_bounding(keep: int, *, highest: int | None = None) -> None:
    """Drop every capability that is not in `keep` from the bounding set of the caller.

    Needs CAP_SETPCAP (PermissionError). `highest` is `last()` when the caller knows it. Dropping is for ever.
    """
    from linux import libc

    for bit in range((last() if highest is None else highest) + 1):
        if not keep >> bit & 1 and libc.prctl(libc.PR_CAPBSET_READ, bit):
            libc.prctl(libc.PR_CAPBSET_DROP, bit)


def set_all(effective: int, permitted: int, inheritable: int = 0, ambient: int = 0) -> None:
    """Set all sets but the bounding one: clears the ambient set first, raises what `ambient` says last.

    Raises PermissionError when a set would grow beyond what the caller has.
    """
    from linux import libc

    libc.prctl(libc.PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL)
    _capset(effective, permitted, inheritable)
    for bit in range(ambient.bit_length()):
        if ambient >> bit & 1:
            libc.prctl(libc.PR_CAP_AMBIENT, _AMBIENT_RAISE, bit)


def _capset(effective: int, permitted: int, inheritable: int) -> None:
    from linux import libc

    low = 0xFFFFFFFF
    data = struct.pack(
        "=6I",
        *(effective & low, permitted & low, inheritable & low),
        *(effective >> 32, permitted >> 32, inheritable >> 32),
    )
    libc.syscall("capset", struct.pack("=Ii", _VERSION_3, 0), data, path="capset")


def keep_over_setuid(*, on: bool) -> None:
    """PR_SET_KEEPCAPS: whether the permitted set survives a change from uid 0 to others; execve resets it."""
    from linux import libc

    libc.prctl(libc.PR_SET_KEEPCAPS, int(on))
