"""loopback: brings up ``lo`` in the container's network namespace.

It works by ioctl(2): all there is to do are two flags and a look at the addresses.
"""

from __future__ import annotations

import os
from _socket import AF_INET, SOCK_CLOEXEC, SOCK_DGRAM, socket
from array import array
from fcntl import ioctl
from struct import pack, unpack_from

from cni.errors import INTERNAL, UNKNOWN_CONTAINER, CniError
from cni.types.address import Cidr
from cni.types.result import Interface, IPConfig, Result

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from cni.request import Request

LOOPBACK_DOWN = 100  # CHECK: lo is not up

_NAME = "lo"
_IFF_UP = 1
# linux/sockios.h
_SIOCGIFCONF, _SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCGIFNETMASK = 0x8912, 0x8913, 0x8914, 0x891B
_IFREQ = 40  # bytes of a struct ifreq
_MOST_ADDRESSES = 64  # of the whole namespace, IPv4's; nobody has as many before lo


def add(request: Request) -> Result:
    """Up, whatever CNI_IFNAME says; the result is the previous one in a chain, else lo and its addresses."""
    with _inside(_netns(request)):
        set_up(up=True)
        addresses = _addresses()
    for each in addresses:
        if each.packed != bytes(15) + b"\1" if each.v6 else each.packed[0] != 127:
            raise CniError(INTERNAL, f"lo has an address that is not a loopback address: {each}")
    if request.prev_result is not None:
        return request.prev_result
    interface = Interface(_NAME, mac="00:00:00:00:00:00", sandbox=request.netns or "")
    # The first of each family, as others have it.
    ips = [next((each for each in addresses if each.v6 == v6), None) for v6 in (False, True)]
    return Result(interfaces=[interface], ips=[IPConfig(each, interface=0) for each in ips if each])


def check(request: Request) -> None:
    with _inside(_netns(request)):
        if not is_up():
            raise CniError(LOOPBACK_DOWN, "lo is down", f"in {request.netns}")


def delete(request: Request) -> None:
    """Down. A namespace that is gone already is no error: DEL may come twice."""
    if request.netns is None or not os.path.exists(request.netns):
        return
    with _inside(request.netns):
        set_up(up=False)


def _netns(request: Request) -> str:
    if request.netns is None or not os.path.exists(request.netns):
        raise CniError(UNKNOWN_CONTAINER, "the network namespace does not exist", request.netns or "")
    return request.netns


def _inside(netns: str) -> AbstractContextManager[None]:
    from linux.namespaces import inside

    return inside(netns)


def _flags(sock: socket) -> int:
    answer = ioctl(sock, _SIOCGIFFLAGS, pack("16s24x", _NAME.encode()))
    flags: int = unpack_from("H", answer, 16)[0]
    return flags


def is_up() -> bool:
    """Whether lo is up in the namespace of the caller."""
    sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC)
    try:
        return bool(_flags(sock) & _IFF_UP)
    finally:
        sock.close()


def set_up(*, up: bool) -> None:
    """Bring lo up or take it down in the namespace of the caller."""
    sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC)
    try:
        flags = _flags(sock)
        wanted = flags | _IFF_UP if up else flags & ~_IFF_UP
        ioctl(sock, _SIOCSIFFLAGS, pack("16sH22x", _NAME.encode(), wanted))
    finally:
        sock.close()


def _addresses() -> list[Cidr]:
    """The addresses of lo, IPv4's first; either may be missing."""
    found = []
    room = array("B", bytes(_IFREQ * _MOST_ADDRESSES))
    sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC)
    try:
        size = unpack_from("i", ioctl(sock, _SIOCGIFCONF, pack("i4xP", len(room), room.buffer_info()[0])))[0]
        for start in range(0, size, _IFREQ):
            each = room[start : start + _IFREQ].tobytes()
            label = each[:16].rstrip(b"\0")
            if label.partition(b":")[0] == _NAME.encode():
                mask = ioctl(sock, _SIOCGIFNETMASK, each)[20:24]
                found.append(Cidr(each[20:24], int.from_bytes(mask, "big").bit_count()))
    finally:
        sock.close()
    try:
        # thread-self: /proc/self/net is of the process's first thread.
        with open("/proc/thread-self/net/if_inet6", "rb", buffering=0) as file:
            for line in file.read(1 << 16).splitlines():
                words = line.split()
                if words[-1] == _NAME.encode():
                    found.append(Cidr(bytes.fromhex(words[0].decode()), int(words[2], 16)))
    except FileNotFoundError:
        pass  # a kernel without IPv6
    return found
