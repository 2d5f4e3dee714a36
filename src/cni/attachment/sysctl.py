"""Network settings below /proc/sys/net, of the network namespace that the caller is in."""

from __future__ import annotations

import os

_ROOT = "/proc/sys/net"
_LONGEST = 4096  # bytes of a value


def write(name: str, value: int) -> None:
    """Set ``ipv4/ip_forward`` and the like; nothing is written when it has that value already.

    Without IPv6 in the kernel, or on an interface with less than the MTU that IPv6 needs (1280), there is
    nothing to set for it, and that is no error.
    """
    path = f"{_ROOT}/{name}"
    text = b"%d" % value
    refused: OSError | None = None
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        if name.startswith("ipv6/") and not _has_ipv6(name):
            return
        raise
    except OSError as failed:  # read-only, as in many a container: it may have the value
        refused = failed
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.read(fd, 64).strip() == text:
            return
        if refused is not None:
            raise refused
        os.pwrite(fd, text, 0)
    except OSError as failed:
        failed.filename = path
        raise
    finally:
        os.close(fd)


def _has_ipv6(name: str) -> bool:
    """Whether the kernel has IPv6; and if the setting is of an interface that is there, if that has it."""
    if not os.path.exists(f"{_ROOT}/ipv6"):
        return False
    own = os.path.dirname(name)
    return os.path.exists(f"{_ROOT}/{own}") or not os.path.exists(f"{_ROOT}/ipv4{own.removeprefix('ipv6')}")


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


def read_text(name: str) -> str:
    """The value of a setting such as ``core/somaxconn``, white space between its parts made one blank."""
    fd = os.open(f"{_ROOT}/{name}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return " ".join(os.read(fd, _LONGEST).decode(errors="replace").split())
    finally:
        os.close(fd)


def write_text(name: str, value: str) -> None:
    """Set a setting to a value as somebody wrote it; the kernel says what it thinks of it by OSError."""
    path = f"{_ROOT}/{name}"
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.write(fd, value.encode())
    except OSError as failed:
        failed.filename = path
        raise
    finally:
        os.close(fd)


def setting(key: str, interface: str) -> str:
    """The path below /proc/sys/net of ``net.ipv4.conf.IFNAME.forwarding``; the first IFNAME is `interface`.

    As in sysctl.d(5), the separator that comes first is the one between parts, and a slash among dots stands
    for a dot. ValueError for what is not below net, whatever ``..`` is in it.
    """
    dot, slash = key.find("."), key.find("/")
    if slash < 0 or 0 <= dot < slash:
        parts = [part.replace("/", ".") for part in key.split(".")]
    else:
        parts = key.split("/")
    if parts[0] != "net" or len(parts) < 2:
        raise ValueError(f"{key!r} is not a network setting: it does not start with net.")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise ValueError(f"{key!r} is not the name of a setting")
    for place, part in enumerate(parts):
        if "IFNAME" in part:
            parts[place] = part.replace("IFNAME", interface, 1)
            break
    return "/".join(parts[1:])
