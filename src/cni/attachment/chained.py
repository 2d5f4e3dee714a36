"""What plugins in a chain share: the interface that another plugin made, and whether it is still that one."""

from __future__ import annotations

import os

from cni.attachment import names
from cni.attachment.verify import damaged
from cni.errors import INVALID_CONFIG, CniError
from cni.lock import Lock
from cni.types.result import Interface, Result
from linux.netlink import link

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Callable

    from cni.attachment.veth import Namespaces
    from cni.fields import Fields
    from cni.request import Request
    from linux.netlink.link import Link


def container_link(request: Request, namespaces: Namespaces) -> Link:
    """The container's interface of this attachment; CniError 7 when no plugin before has made it."""
    found = link.get(namespaces.container, request.ifname)
    if found is None:
        raise CniError(
            INVALID_CONFIG, f"the container has no interface {request.ifname}", f"in {namespaces.path}"
        )
    return found


def checked_link(request: Request, namespaces: Namespaces) -> Link:
    """The same for CHECK, to which a missing interface is damage."""
    found = link.get(namespaces.container, request.ifname)
    if found is None:
        raise damaged(f"the container has no interface {request.ifname}")
    return found


def identity(namespaces: Namespaces) -> str:
    """A name for the container's namespace that no other living one has: a path can be another's later."""
    return _identity(os.fstat(namespaces.fd))


def lock(namespaces: Namespaces) -> Lock:
    """Of two that look for a free routing table in one namespace, one waits.

    A lock of ours and not on the namespace's own file: that one, the container could hold for ever. A few
    for all namespaces, as nobody removes lock files.
    """
    return Lock(f"tables-{names.digest(identity(namespaces), 1)}")


def is_there(request: Request, made: Fields) -> bool:
    """Whether the namespace at CNI_NETNS is the one that the record names under `netns`."""
    return _is_at(request.netns or "", made)


def place(request: Request, made: Fields) -> str | None:
    """Where the namespace that the record names can be opened, None when it is nowhere any more.

    At CNI_NETNS, which DEL need not be given, else where it was at ADD, which the record has under `path`.
    """
    for path in (request.netns or "", made.string("path")):
        if _is_at(path, made):
            return path
    return None


def changed(result: Result, change: Callable[[Interface], Interface]) -> Result:
    """`result` with `change` applied to each of its interfaces."""
    return Result(
        interfaces=[change(each) for each in result.interfaces],
        ips=result.ips,
        routes=result.routes,
        dns=result.dns,
        version=result.version,
    )


def _is_at(path: str, made: Fields) -> bool:
    try:
        return bool(path) and _identity(os.stat(path)) == made.string("netns")
    except OSError:
        return False


def _identity(found: os.stat_result) -> str:
    return f"{found.st_dev}:{found.st_ino}"
