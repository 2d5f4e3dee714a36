"""sd_notify(3), both sides: tell a supervisor how this process is, and be the supervisor of another one.

A message is one datagram of ``NAME=value`` lines to the Unix socket that $NOTIFY_SOCKET names: a path, or
``@`` and a name in the abstract space of the network namespace. Nobody answers, and nobody must have to: a
supervisor that is gone is no reason for a service to fail.
"""

from __future__ import annotations

import os
import time

from linux.bare import socket

TYPE_CHECKING = False  # typing.TYPE_CHECKING, without the 2 MB that typing loads
if TYPE_CHECKING:
    from collections.abc import MutableMapping

# systemd takes no more than a page; what is longer is not one of its messages.
LARGEST = 4096
_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notifier:
    """The supervisor of this process. `watchdog` is how often it wants to hear WATCHDOG=1, in seconds, or
    0.
    """

    __slots__ = ("_next", "address", "watchdog")

    def __init__(self, address: str, watchdog: float = 0.0) -> None:
        self.address = address
        self.watchdog = watchdog
        self._next = 0.0

    @classmethod
    def take(cls, environment: MutableMapping[str, str] | None = None) -> Notifier | None:
        """The supervisor that the environment names, or None; no child shall inherit it, so it is removed.

        An address of a kind that is not known here counts as none.
        """
        found = os.environ if environment is None else environment
        address, interval, pid = (found.pop(name, "") for name in _VARIABLES)
        if address[:1] not in {"/", "@"} or len(address) < 2:
            return None
        watched = interval.isdecimal() and pid in {"", str(os.getpid())}
        return cls(address, int(interval) / 1e6 if watched else 0.0)

    def send(self, *assignments: str) -> bool:
        """Send ``NAME=value`` texts; whether the supervisor took them. It never waits and never raises."""
        address = self.address.encode(errors="surrogateescape")
        if address[:1] == b"@":
            address = b"\0" + address[1:]
        text = "\n".join(assignments).encode(errors="surrogateescape")
        flags = socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | flags)
        try:
            sender.sendto(text, address)
        except OSError:
            return False
        finally:
            sender.close()
        return True

    def next_ping(self) -> float:
        """When (time.monotonic) the next WATCHDOG=1 is due; 0 without a watchdog."""
        return self._next if self.watchdog else 0.0

    def ping(self) -> None:
        """Send WATCHDOG=1 if it is due: twice in each interval, as sd_watchdog_enabled(3) recommends."""
        now = time.monotonic()
        if self.watchdog and now >= self._next:
            self.send("WATCHDOG=1")
            self._next = now + self.watchdog / 2


def bind(directory: int, name: str) -> int:
    """A socket named `name` in the directory of the descriptor `directory`, to receive messages on.

    The descriptor that is returned does not block. Everybody who can reach the socket may write to it. An
    older one of that name is replaced.
    """
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass
    flags = socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | flags)
    try:
        # A path of the pod may be longer than the 107 bytes that an address has room for.
        receiver.bind(f"/proc/self/fd/{directory}/{name}")
        os.chmod(name, 0o666, dir_fd=directory)  # noqa: S103 - who may reach it is decided by the mounts
    except BaseException:
        receiver.close()
        raise
    return receiver.detach()


def receive(fd: int) -> dict[str, str] | None:
    """The assignments of the next message; None when none waits. Hostile: anything may be in it, or nothing.

    Descriptors that came along are never taken in: the kernel closes them.
    """
    receiver = socket.socket(fileno=fd)
    try:
        data = receiver.recv(LARGEST)
    except BlockingIOError:
        return None
    finally:
        receiver.detach()
    return parse(data)


def parse(data: bytes) -> dict[str, str]:
    """The assignments in a message; lines that are none, and what is not UTF-8, are left out."""
    found: dict[str, str] = {}
    for line in data.split(b"\n"):
        name, equals, value = line.partition(b"=")
        if equals and name:
            try:
                found[name.decode()] = value.decode()
            except UnicodeDecodeError:
                continue
    return found
