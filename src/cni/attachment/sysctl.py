"""Network settings below /proc/sys/net, of the network namespace that the caller is in."""

from __future__ import annotations

import os

_ROOT = "/proc/sys/net"


def write(name: str, value: int) -> None:
    """Set ``ipv4/ip_forward`` and the like; nothing is written when it has that value already.

    Without IPv6 in the kernel there is nothing to set for it, and that is no error.
    """
    path = f"{_ROOT}/{name}"
    text = b"%d" % value
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        if name.startswith("ipv6/") and not os.path.exists(f"{_ROOT}/ipv6"):
            return
        raise
    try:
        if os.read(fd, 64).strip() == text:
            return
    finally:
        os.close(fd)
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text)
    except OSError as failed:
        failed.filename = path
        raise
    finally:
        os.close(fd)


def of_interface(family: str, interface: str, name: str, value: int) -> None:
    """Set a setting of one interface; `family` is "ipv4" or "ipv6"."""
    write(f"{family}/conf/{interface}/{name}", value)


def host_side(interface: str) -> None:
    """Settings of a bridge, or of the host's end of a pair, before anything can arrive at it.

    Containers do not tell the host who its router is (CVE-2020-10749). And the host's link-local address is
    usable at once: until then it could ask for no container's, and would lose what it should forward to it.
    """
    of_interface("ipv6", interface, "accept_ra", 0)
    of_interface("ipv6", interface, "accept_dad", 0)


def enable_forwarding(*, v6: bool) -> None:
    """Let the host route packets between its interfaces."""
    write("ipv6/conf/all/forwarding" if v6 else "ipv4/ip_forward", 1)
