"""The link below an interface: `master` of a configuration, on the host or in the container."""

from __future__ import annotations

from cni.attachment import verify
from cni.errors import PLUGIN_NOT_AVAILABLE, CniError
from linux.netlink import link, route
from linux.netlink.socket import ROUTE, Socket

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from cni.attachment.veth import Namespaces
    from cni.fields import Fields
    from cni.request import Request
    from linux.netlink.link import Link

_AF_INET, _AF_INET6 = 2, 10


def in_container(request: Request) -> bool:
    """`linkInContainer`: whether the link below is in the container's namespace."""
    return request.fields.boolean("linkInContainer")


def find(request: Request, namespaces: Namespaces, name: str = "") -> Link:
    """The link `name` (default: `master`, then that of the first default route); CniError 7 without one.

    And when `mtu` of the configuration is above its own.
    """
    socket = namespaces.container if in_container(request) else namespaces.host
    found = _look(socket, name or request.fields.string("master"))
    if isinstance(found, str):
        raise request.refuse(found, "in the container" if in_container(request) else "")
    mtu = request.fields.integer("mtu")
    if not 0 <= mtu <= found.mtu:
        raise request.refuse(f"invalid MTU {mtu}, must be [0, master MTU({found.mtu})]")
    return found


def check(request: Request, namespaces: Namespaces, inside: Link, record: Fields) -> None:
    """CniError 101 when `inside` is not on top of its master.

    With a `record`, which knows better, that has been looked at already.
    """
    if record.values:
        return
    socket = namespaces.container if in_container(request) else namespaces.host
    found = _look(socket, request.fields.string("master"))
    if isinstance(found, str):
        raise verify.damaged(found)
    if inside.peer != found.index:
        raise verify.damaged(f"{inside.name} is not on top of {found.name}")


def status(request: Request) -> None:
    """CniError 50 when the host has no such link. What is in containers is not known before ADD."""
    if in_container(request):
        return
    with Socket(ROUTE) as socket:
        found = _look(socket, request.fields.string("master"))
    if isinstance(found, str):
        raise CniError(PLUGIN_NOT_AVAILABLE, found)


def _look(socket: Socket, name: str) -> Link | str:
    """The link, or why there is none."""
    if name:
        return link.get(socket, link.check_name(name)) or f"master {name} does not exist"
    for family in (_AF_INET, _AF_INET6):
        defaults = [each for each in route.routes(socket, family=family) if each.is_default and each.index]
        if defaults:
            best = min(defaults, key=lambda each: each.priority)
            return link.get(socket, best.index) or "the link of the default route went away"
    return "no master is given, and there is no default route to take it from"
