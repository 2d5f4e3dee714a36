"""Tap devices: links whose packets a program, such as a virtual machine, reads and writes (tuntap.rst)."""

from __future__ import annotations

import fcntl
import os
from struct import Struct

from linux.netlink import link

_DEVICE = "/dev/net/tun"
# include/uapi/linux/if_tun.h
_SET_INTERFACE, _SET_PERSISTENT, _SET_OWNER, _SET_GROUP = 0x400454CA, 0x400454CB, 0x400454CC, 0x400454CE
_TAP, _MULTI_QUEUE, _NO_PACKET_INFO, _VNET_HEADER, _EXCLUSIVE = 0x2, 0x100, 0x1000, 0x4000, 0x8000
_REQUEST = Struct("=16sH22x")  # struct ifreq


def create(
    name: str,
    *,
    multi_queue: bool = False,
    vnet_header: bool = False,
    owner: int | None = None,
    group: int | None = None,
) -> None:
    """Make the tap `name` in the network namespace of the calling thread; it stays until it is deleted.

    The user `owner` and the members of `group` may open it without CAP_NET_ADMIN. OSError EBUSY when there is
    one of that name, ENOENT or ENODEV when the kernel has no taps.
    """
    flags = _TAP | _NO_PACKET_INFO | _EXCLUSIVE
    flags |= (_MULTI_QUEUE if multi_queue else 0) | (_VNET_HEADER if vnet_header else 0)
    # It belongs to the namespace in which this descriptor was opened.
    fd = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _SET_INTERFACE, _REQUEST.pack(link.check_name(name).encode(), flags))
        if owner is not None:
            fcntl.ioctl(fd, _SET_OWNER, owner)
        if group is not None:
            fcntl.ioctl(fd, _SET_GROUP, group)
        # The last: until now the kernel would take it away with this descriptor.
        fcntl.ioctl(fd, _SET_PERSISTENT, 1)
    except OSError as failed:
        raise OSError(failed.errno, f"create tap {name}: {failed.strerror}") from None
    finally:
        os.close(fd)


def is_supported() -> bool:
    """Whether this kernel has taps."""
    try:
        os.close(os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True
