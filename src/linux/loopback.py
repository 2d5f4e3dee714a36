"""The interface `lo` of a network namespace."""

from __future__ import annotations

import fcntl
import struct

from linux.bare import socket

_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1


def bring_up() -> None:
    """Set it up in the caller's namespace: by ioctl, as netlink would be one more module to load."""
    control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        fcntl.ioctl(control.fileno(), _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
    finally:
        control.close()
