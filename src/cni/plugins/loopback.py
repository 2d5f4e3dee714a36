"""loopback: brings up ``lo`` in the container's network namespace.

It works by ioctl(2): all there is to do are two flags and a look at the addresses.
"""

from __future__ import annotations

import os
from _socket import AF_INET, SOCK_CLOEXEC, SOCK_DGRAM, socket
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
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCGIFADDR, _SIOCGIFNETMASK = 0x8913, 0x8914, 0x8915, 0x891B


def add(request: Request) -> Result:
    """Up, whatever CNI_IFNAME says; the result is the previous one in a chain, else lo and its addresses."""
    with _inside(_netns(request)):
        set_up(up=True)
        if request.prev_result is not None:
            return request.prev_result
        addresses = _addresses()
    for each in addresses:
        if each.packed != bytes(15) + b"\1" if each.v6 else each.packed[0] != 127:
            raise CniError(INTERNAL, f"lo has an address that is not a loopback address: {each}")
    interface = Interface(_NAME, mac="00:00:00:00:00:00", sandbox=request.netns or "")
    return Result(interfaces=[interface], ips=[IPConfig(each, interface=0) for each in addresses])


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
    """The first IPv4 address of lo, then its IPv6 addresses; either may be missing."""
    found = []
    sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC)
    try:
        request = pack("16sH22x", _NAME.encode(), AF_INET)
        address, mask = (ioctl(sock, each, request)[20:24] for each in (_SIOCGIFADDR, _SIOCGIFNETMASK))
        found.append(Cidr(address, int.from_bytes(mask, "big").bit_count()))
    except OSError:
        pass  # no IPv4 address
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
