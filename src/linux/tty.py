"""Terminals: a pseudo terminal of a given devpts, raw mode that is always undone, window sizes."""

from __future__ import annotations

import fcntl
import os
import struct
import termios

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

_TIOCSPTLCK = 0x40045431
_TIOCGPTN = 0x80045430
_TIOCGPTPEER = 0x5441


def open_pair(ptmx: str = "/dev/ptmx", *, dir_fd: int | None = None) -> tuple[int, int, int]:
    """A new pseudo terminal: master, slave and its number in the devpts that `ptmx` belongs to.

    The slave is opened through the master (TIOCGPTPEER), never by a name, so that it is of the same devpts
    whatever lies at /dev/pts (CVE-2016-2856, CVE-2025-52565). Neither becomes a controlling terminal.
    """
    flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
    master = os.open(ptmx, flags, dir_fd=dir_fd)
    try:
        fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
        (number,) = struct.unpack("I", fcntl.ioctl(master, _TIOCGPTN, bytes(4)))
        slave = fcntl.ioctl(master, _TIOCGPTPEER, flags)
    except BaseException:
        os.close(master)
        raise
    return master, slave, number


def make_controlling(fd: int) -> None:
    """Make the terminal `fd` the controlling one of the caller, who leads a session without one."""
    fcntl.ioctl(fd, termios.TIOCSCTTY, 0)


def copy_window_size(source: int, target: int) -> bool:
    """Give the terminal `target` the size of `source`; False when one of them is none."""
    try:
        fcntl.ioctl(target, termios.TIOCSWINSZ, fcntl.ioctl(source, termios.TIOCGWINSZ, bytes(8)))
    except OSError:
        return False
    return True


class raw:
    """``with raw(0):`` every byte typed is passed on at once and as it is; after that all is as before."""

    __slots__ = ("_saved", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._saved: list[int | list[bytes | int]] = []

    def __enter__(self) -> None:
        self._saved = termios.tcgetattr(self.fd)
        mode = termios.tcgetattr(self.fd)
        mode[0] &= ~(
            termios.BRKINT | termios.ICRNL | termios.INPCK | termios.ISTRIP | termios.IXON | termios.IGNBRK
        )
        mode[1] &= ~termios.OPOST
        mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        mode[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG)
        termios.tcsetattr(self.fd, termios.TCSADRAIN, mode)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            termios.tcsetattr(self.fd, termios.TCSADRAIN, self._saved)
        except (OSError, termios.error):
            return  # the terminal has hung up: nothing to give back
