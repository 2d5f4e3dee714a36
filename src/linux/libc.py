"""System calls by name: numbers per architecture, one gate through libc's ``syscall``, errno as OSError.

Nothing here decides anything. The number of a call is looked up in a table instead of a libc wrapper,
because Debian 12's glibc has none for the newer calls and musl has fewer still.
Importing this module costs what ctypes costs (3 ms); `linux` imports it only where a call is made.
"""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

# Calls up to 423 have a number per architecture; from 424 on all architectures share one (Linux 5.1).
_X86_64 = {
    "prctl": 157, "pivot_root": 155, "mount": 165, "umount2": 166, "sethostname": 170, "setdomainname": 171,
    "capget": 125, "capset": 126, "unshare": 272, "setns": 308, "clone": 56, "add_key": 248,
    "request_key": 249, "keyctl": 250, "seccomp": 317, "renameat2": 316, "linkat": 265, "unlinkat": 263,
    "mknodat": 259, "mkdirat": 258, "openat": 257, "fchownat": 260, "statx": 332, "bpf": 321,
    "personality": 135, "prlimit64": 302, "syncfs": 306, "name_to_handle_at": 303, "open_by_handle_at": 304,
    "getpid": 39, "gettid": 186, "tgkill": 234, "kill": 62, "ptrace": 101, "quotactl": 179, "fadvise64": 221,
    "ioprio_set": 251, "setfsuid": 122, "setfsgid": 123, "execveat": 322, "memfd_create": 319,
    "perf_event_open": 298, "kcmp": 312, "sendfile": 40, "splice": 275, "fallocate": 285, "swapon": 167,
    "reboot": 169, "acct": 163, "init_module": 175, "finit_module": 313, "kexec_load": 246,
    "userfaultfd": 323, "socket": 41, "setsid": 112, "exit_group": 231, "statfs": 137, "fstatfs": 138,
    "setgroups": 116, "setresuid": 117, "setresgid": 119, "ioctl": 16, "vmsplice": 278, "tee": 276,
    "mincore": 27, "madvise": 28, "membarrier": 324, "chroot": 161, "umask": 95, "fchmodat": 268,
    "sync_file_range": 277,
}  # fmt: skip
_AARCH64 = {
    "prctl": 167, "pivot_root": 41, "mount": 40, "umount2": 39, "sethostname": 161, "setdomainname": 162,
    "capget": 90, "capset": 91, "unshare": 97, "setns": 268, "clone": 220, "add_key": 217,
    "request_key": 218, "keyctl": 219, "seccomp": 277, "renameat2": 276, "linkat": 37, "unlinkat": 35,
    "mknodat": 33, "mkdirat": 34, "openat": 56, "fchownat": 54, "statx": 291, "bpf": 280,
    "personality": 92, "prlimit64": 261, "syncfs": 267, "name_to_handle_at": 264, "open_by_handle_at": 265,
    "getpid": 172, "gettid": 178, "tgkill": 131, "kill": 129, "ptrace": 117, "quotactl": 60, "fadvise64": 223,
    "ioprio_set": 30, "setfsuid": 151, "setfsgid": 152, "execveat": 281, "memfd_create": 279,
    "perf_event_open": 241, "kcmp": 272, "sendfile": 71, "splice": 76, "fallocate": 47, "swapon": 224,
    "reboot": 142, "acct": 89, "init_module": 105, "finit_module": 273, "kexec_load": 104,
    "userfaultfd": 282, "socket": 198, "setsid": 157, "exit_group": 94, "statfs": 43, "fstatfs": 44,
    "setgroups": 159, "setresuid": 147, "setresgid": 149, "ioctl": 29, "vmsplice": 75, "tee": 77,
    "mincore": 232, "madvise": 233, "membarrier": 283, "chroot": 51, "umask": 166, "fchmodat": 53,
    "sync_file_range": 84,
}  # fmt: skip
_SHARED = {
    "pidfd_send_signal": 424, "io_uring_setup": 425, "open_tree": 428, "move_mount": 429, "fsopen": 430,
    "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_open": 434, "clone3": 435, "close_range": 436,
    "openat2": 437, "pidfd_getfd": 438, "faccessat2": 439, "mount_setattr": 442,
    "landlock_create_ruleset": 444, "landlock_add_rule": 445, "landlock_restrict_self": 446,
    "statmount": 457, "listmount": 458, "fchmodat2": 452, "open_tree_attr": 467,
}  # fmt: skip
_PER_MACHINE = {"x86_64": _X86_64, "aarch64": _AARCH64}
_numbers: dict[str, int] = {}


def number(name: str) -> int:
    """The number of the system call `name` on this machine; ValueError for an unknown name or machine."""
    if not _numbers:
        machine = os.uname().machine
        if machine not in _PER_MACHINE:
            raise ValueError(f"{machine}: no table of system calls for this machine")
        _numbers.update(_SHARED)
        _numbers.update(_PER_MACHINE[machine])
    try:
        return _numbers[name]
    except KeyError:
        raise ValueError(f"{name}: not in the table of system calls") from None


def syscall(name: str, *args: object, path: str | bytes | None = None, path2: str | None = None) -> int:
    """Make the system call `name`; its result, or OSError with `path` (and `path2`) in the message.

    int arguments are passed as 64-bit words (-1 and flags above 2^31 alike), str as a NUL-terminated
    file name, bytes as they are with a NUL behind, None as NULL; ctypes arrays, structures and pointers
    as pointers. ValueError when a str holds a NUL, which would cut a path short.
    """
    words: list[object] = [ctypes.c_long(number(name))]
    for value in args:
        if isinstance(value, int):
            words.append(ctypes.c_long(value))
        elif isinstance(value, str):
            encoded = os.fsencode(value)
            if b"\0" in encoded:
                raise ValueError(f"{value!r}: NUL in a file name")
            words.append(ctypes.c_char_p(encoded))
        elif value is None:
            words.append(ctypes.c_void_p(None))
        elif isinstance(value, bytes):
            words.append(ctypes.c_char_p(value))
        elif isinstance(value, ctypes.Structure):
            words.append(ctypes.byref(value))
        else:
            words.append(value)
    result: int = _libc.syscall(*words)
    if result < 0:
        raise error(ctypes.get_errno(), name if path is None else path, path2)
    return result


def error(errno: int, path: str | bytes, path2: str | None = None) -> OSError:
    """The OSError (of the right subclass) that tells about `errno` at `path`."""
    if path2 is not None:
        return OSError(errno, os.strerror(errno), path, None, path2)
    return OSError(errno, os.strerror(errno), path)


# prctl(2) options that this project uses.
PR_SET_PDEATHSIG = 1
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_GET_SECUREBITS = 27
PR_SET_SECUREBITS = 28
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47


def prctl(option: int, *args: int) -> int:
    """prctl(2) with the missing arguments as zero, as newer options demand."""
    return syscall("prctl", option, *args, *[0] * (4 - len(args)))


CLOSE_RANGE_CLOEXEC = 4


def close_range(first: int, last: int = 0xFFFFFFFF, flags: int = 0) -> None:
    """close_range(2), Linux 5.9: close the fds from `first` to `last`, or mark them (CLOEXEC)."""
    syscall("close_range", first, last, flags)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2). With "." for both the old root lies on top of the new one: umount "." next."""
    syscall("pivot_root", new_root, put_old, path=new_root, path2=put_old)


def sethostname(name: str) -> None:
    """Set the host name of the caller's UTS namespace: at most 64 bytes."""
    encoded = name.encode()
    syscall("sethostname", encoded, len(encoded), path=name)


class _Statfs(ctypes.Structure):
    _fields_ = (
        ("f_type", ctypes.c_long),
        ("f_bsize", ctypes.c_long),
        ("rest", ctypes.c_char * 256),
    )


def filesystem_type(fd: int) -> int:
    """The magic number of the filesystem that `fd` (O_PATH will do) is on, such as 0x9FA0 for proc."""
    buffer = _Statfs()
    syscall("fstatfs", fd, buffer)
    return int(buffer.f_type) & 0xFFFFFFFF


PIPEFS_MAGIC = 0x50495045  # pipes without a name
PROC_SUPER_MAGIC = 0x9FA0
