"""Namespaces: leave, join, visit; user namespaces and their ID maps."""

from __future__ import annotations

import errno
import fcntl
import os

TYPE_CHECKING = False  # not from typing: every CNI plugin visits a namespace, and lives too short to load it
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

NEWTIME = 0x00000080
NEWNS = 0x00020000
NEWCGROUP = 0x02000000
NEWUTS = 0x04000000
NEWIPC = 0x08000000
NEWUSER = 0x10000000
NEWPID = 0x20000000
NEWNET = 0x40000000

_NS_GET_NSTYPE = 0xB703  # ioctl_ns(2), Linux 4.11: what nothing but a namespace answers

# The name of each kind's file in /proc/PID/ns.
FILES = {
    NEWUSER: "user",
    NEWNS: "mnt",
    NEWPID: "pid",
    NEWNET: "net",
    NEWIPC: "ipc",
    NEWUTS: "uts",
    NEWCGROUP: "cgroup",
    NEWTIME: "time",
}


def unshare(flags: int) -> None:
    """unshare(2): move the caller into new namespaces, a NEWPID one from its next child on.

    With NEWUSER the others in `flags` are owned by the new user namespace.
    """
    from linux.libc import syscall

    syscall("unshare", flags)


def setns(fd: int, kind: int = 0) -> None:
    """setns(2): join the namespace `fd`, of `kind` (0: whatever it is), or those of a pidfd (Linux 5.8)."""
    if _setns(fd, kind) != 0:
        from linux.libc import syscall

        syscall("setns", fd, kind)  # once more, for its errno


def _setns(fd: int, kind: int) -> int:
    """libc's setns. Without the package ctypes, which costs a network plugin a tenth of its life."""
    import _ctypes

    libc = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]
    return int(_ctypes.call_function(_ctypes.dlsym(libc, "setns"), (fd, kind)))


def open_namespace(path: str) -> int:
    """Open the namespace file `path`; ValueError for any other: a pin that a reboot lost is plain."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        if fcntl.ioctl(fd, _NS_GET_NSTYPE) not in FILES:
            raise ValueError
    except (OSError, ValueError):
        os.close(fd)
        raise ValueError(f"{path}: not a namespace") from None
    return fd


class inside:
    """``with inside("/run/netns/x"):`` the calling thread is in that network namespace, or a descriptor's.

    If the way back is barred the process ends at once (status 70) rather than work in the wrong namespace.
    Raises OSError or ValueError (not a namespace), still outside. Sockets opened inside stay of there.
    """

    __slots__ = ("_back", "_fd", "path")

    def __init__(self, target: str | os.PathLike[str] | int) -> None:
        self._fd = target if isinstance(target, int) else -1
        self.path = f"descriptor {target}" if isinstance(target, int) else os.fspath(target)
        self._back = -1

    def __enter__(self) -> None:
        target = self._fd if self._fd >= 0 else open_namespace(self.path)
        try:
            # thread-self: /proc/self shows the namespaces of the process's first thread.
            self._back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                setns(target, NEWNET)
            except OSError as failed:
                os.close(self._back)
                if target == self._fd and failed.errno == errno.EINVAL:
                    raise ValueError(f"{self.path}: not a network namespace") from None
                failed.filename = self.path
                raise
        finally:
            if target != self._fd:
                os.close(target)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            setns(self._back, NEWNET)
        except OSError as failed:
            os.write(2, f"cannot return from network namespace {self.path}: {failed.strerror}\n".encode())
            os._exit(70)
        os.close(self._back)


def write_id_maps(
    pid: int, uid_map: Sequence[tuple[int, int, int]], gid_map: Sequence[tuple[int, int, int]]
) -> None:
    """Write the maps of the new user namespace of `pid`: lines of (first ID inside, first outside, count).

    Once only; needs CAP_SETUID and CAP_SETGID in the parent namespace. /proc/PID/setgroups stays ``allow``.
    """
    for name, lines in (("gid_map", gid_map), ("uid_map", uid_map)):
        text = "".join(f"{inner} {outer} {count}\n" for inner, outer, count in lines)
        fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        except OSError as failed:
            failed.filename = f"/proc/{pid}/{name}"
            raise
        finally:
            os.close(fd)


def user_namespace(uid_map: Sequence[tuple[int, int, int]], gid_map: Sequence[tuple[int, int, int]]) -> int:
    """An fd of a new user namespace with these maps and no process: for mounts with mapped owners."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            unshare(NEWUSER)
            os.write(writing, b".")
            os.close(writing)
            import signal

            signal.pause()
        finally:
            os._exit(1)
    try:
        os.close(writing)
        if not os.read(reading, 1):
            raise OSError(1, "cannot make a user namespace", f"/proc/{child}/ns/user")
        write_id_maps(child, uid_map, gid_map)
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(reading)
        os.kill(child, 9)
        os.waitpid(child, 0)


def in_initial_user_namespace() -> bool:
    """Whether every ID here is the host's own: root is the host's root."""
    with open("/proc/self/uid_map", "rb") as file:
        return file.read().split() == [b"0", b"0", b"4294967295"]


def same(path: str, other: str) -> bool:
    """Whether two namespace files are of one namespace: a check for CNI_NETNS against our own (R21)."""
    return os.path.samestat(os.stat(path), os.stat(other))
