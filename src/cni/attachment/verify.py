"""CHECK: compare what an ADD's result says with what the container has."""

from __future__ import annotations

from cni.errors import DECODING_FAILURE, CniError
from cni.types.address import format_ip
from linux.netlink import address, link, route

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Collection

    from cni.attachment.veth import Namespaces
    from cni.request import Request
    from cni.types.result import Interface, IPConfig, Result
    from linux.netlink.link import Link

DAMAGED = 101  # CHECK: something of the attachment is missing or was changed


def damaged(message: str, details: str = "") -> CniError:
    return CniError(DAMAGED, message, details)


def previous(request: Request) -> Result:
    """The result of the ADD; CniError 6 when the runtime does not give it."""
    result = request.prev_result
    if result is None:
        raise CniError(DECODING_FAILURE, "Required prevResult missing")
    return result


def own_interface(request: Request, result: Result) -> tuple[int, Interface]:
    """The container's interface in the result, and its index there."""
    for place, each in enumerate(result.interfaces):
        if each.name == request.ifname and each.sandbox == (request.netns or ""):
            return place, each
    raise damaged(
        f"the result has no interface {request.ifname} in the container", f"sandbox {request.netns}"
    )


def own_ips(request: Request, result: Result) -> list[IPConfig]:
    """The addresses of the container's interface; those that name no interface are taken for its own."""
    place, _ = own_interface(request, result)
    return [each for each in result.ips if each.interface in (None, place)]


def container(
    request: Request,
    namespaces: Namespaces,
    result: Result,
    recorded: Collection[str] | None,
    kind: str | None = "veth",
) -> Link:
    """The container's end is there, of its `kind` and the hardware address it had, with its addresses.

    None is any kind. `recorded` are the addresses this plugin gave, so that what others of the chain added or
    took away is not counted against it; None: it left no record, the result alone speaks.
    """
    _, interface = own_interface(request, result)
    found = link.get(namespaces.container, request.ifname)
    if found is None:
        raise damaged(f"the container has no interface {request.ifname}")
    if kind is not None and found.kind != kind:
        raise damaged(f"{request.ifname} is not a {kind}", f"but {found.kind or 'of no kind'}")
    if interface.mac and found.mac != interface.mac.lower():
        raise damaged(f"{request.ifname} has MAC address {found.mac}", f"not {interface.mac}")
    ips = own_ips(request, result)
    wanted = {str(each.address) for each in ips}
    if recorded is not None:
        wanted &= set(recorded)
    present = {str(each) for each in address.addresses(namespaces.container, found.index)}
    missing = wanted - present
    if missing:
        raise damaged(f"{request.ifname} lacks addresses", ", ".join(sorted(missing)))
    return found


def routes(namespaces: Namespaces, result: Result) -> None:
    """Every route of the result is there, in whatever table; of a default route any will do."""
    present = [
        each for family in (2, 10) for each in route.routes(namespaces.container, family=family, table=None)
    ]
    for wanted in result.routes:
        destination = str(wanted.dst.network)
        gateway = format_ip(wanted.gw) if wanted.gw else ""
        if not any(
            each.destination == destination
            and (not gateway or wanted.dst.length == 0 or each.gateway == gateway)
            for each in present
        ):
            raise damaged(f"the route to {destination} is missing", f"via {gateway}" if gateway else "")


def host_end(namespaces: Namespaces, name: str, peer: Link) -> Link:
    """The host's end is there and is the other end of the container's."""
    found = link.get(namespaces.host, name)
    if found is None:
        raise damaged(f"the host has no interface {name}")
    if found.kind != "veth" or found.index != peer.peer or found.peer != peer.index:
        raise damaged(f"{name} is not the other end of {peer.name}")
    if not found.is_up:
        raise damaged(f"{name} is down")
    return found
