"""Masquerade of an attachment, by the backend that its configuration asks for and its record remembers."""

from __future__ import annotations

from cni.attachment import options, teardown

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni.fields import Fields
    from cni.nft.tables import Later
    from cni.request import Request
    from cni.types.address import Cidr


def recorded(made: Fields) -> str:
    """The backend in a record, "" for no masquerade."""
    value = made.get("masquerade")
    return value if isinstance(value, str) else options.DEFAULT_BACKEND if value else ""


def add(request: Request, backend: str, addresses: Sequence[Cidr]) -> None:
    """Masquerade what comes from `addresses`, each with the length of its subnet."""
    if backend == "iptables":
        from cni.iptables import masquerade as by_iptables

        by_iptables.add(addresses, request.name, request.container_id)
    elif backend:
        from cni.nft import masquerade

        masquerade.add(addresses, teardown.owner(request))


def remove(request: Request, made: Fields, later: Later | None = None) -> None:
    """No longer, as recorded; what is not there is passed over. `later`: see `cni.nft.tables.Session`."""
    addresses = teardown.recorded_ips(made)
    if recorded(made) == "iptables":
        from cni.iptables import masquerade as by_iptables

        by_iptables.remove(addresses, request.name, request.container_id)
    elif recorded(made):
        from cni.nft import masquerade

        masquerade.remove(addresses, teardown.owner(request), later)


def is_complete(request: Request, made: Fields) -> bool:
    """Whether all of what the record says is in place; so it is when it says nothing."""
    addresses = teardown.recorded_ips(made)
    if not addresses or not recorded(made):
        return True
    if recorded(made) == "iptables":
        from cni.iptables import masquerade as by_iptables

        return by_iptables.is_complete(addresses, request.name, request.container_id)
    from cni.nft import masquerade

    return masquerade.is_complete(addresses, teardown.owner(request))
