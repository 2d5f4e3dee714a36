"""Socket activation, sd_listen_fds(3): take the sockets that a service manager passes, and pass them on.

They are the descriptors from 3 on; $LISTEN_FDS says how many, $LISTEN_FDNAMES how they are called, and
$LISTEN_PID for which process they are, so that no other one takes them by mistake.
"""

from __future__ import annotations

import os

from linux.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

FIRST = 3
_MOST = 1024
_UNNAMED = "unknown"  # what systemd calls it
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


class Passed(NamedTuple):
    """A descriptor that was passed, and its name ("unknown" when nobody gave it one)."""

    fd: int
    name: str


class Address(NamedTuple):
    """Where a socket is bound: `protocol` tcp, udp, sctp, unix or "" for another; `port` 0 without one."""

    protocol: str
    port: int


def take(environment: MutableMapping[str, str] | None = None) -> list[Passed]:
    """The descriptors that were passed to this process, from now on closed at an exec; empty when none were.

    The variables are removed, as no child is meant by them. Raises ValueError when they are damaged, and
    OSError (EBADF) when a descriptor that they tell of is not open.
    """
    found = os.environ if environment is None else environment
    if "LISTEN_PID" not in found:
        return []
    pid, count, names = (found.pop(name, "") for name in _VARIABLES)
    if pid != str(os.getpid()):
        return []
    if not count.isdecimal() or int(count) > _MOST:
        raise ValueError(f"LISTEN_FDS={count!r} is not a number of descriptors")
    number = int(count)
    called = names.split(":") if names else [_UNNAMED] * number
    if len(called) != number:
        raise ValueError(f"LISTEN_FDNAMES has {len(called)} names for {number} descriptors")
    for fd in range(FIRST, FIRST + number):
        os.set_inheritable(fd, False)  # noqa: FBT003
    return [Passed(fd, name) for fd, name in enumerate(called, FIRST)]


def address(fd: int) -> Address:
    """Where the socket `fd` is bound, by getsockname(2). OSError (ENOTSOCK) for what is no socket."""
    import socket

    with socket.socket(fileno=os.dup(fd)) as passed:
        name = passed.getsockname()
        if passed.family == socket.AF_UNIX:
            return Address("unix", 0)
        if passed.family not in {socket.AF_INET, socket.AF_INET6}:
            return Address("", 0)
        kinds = {
            (socket.SOCK_STREAM, socket.IPPROTO_TCP): "tcp",
            (socket.SOCK_DGRAM, socket.IPPROTO_UDP): "udp",
            (socket.SOCK_STREAM, socket.IPPROTO_SCTP): "sctp",
            (socket.SOCK_SEQPACKET, socket.IPPROTO_SCTP): "sctp",
        }
        return Address(kinds.get((passed.type, passed.proto), ""), name[1])


def variables(names: Sequence[str], pid: int) -> dict[str, str]:
    """What the environment of the process `pid` has to say when it has descriptors of these names from 3 on.

    `pid` is the number in the process's own PID namespace.
    """
    return {"LISTEN_PID": str(pid), "LISTEN_FDS": str(len(names)), "LISTEN_FDNAMES": ":".join(names)}
