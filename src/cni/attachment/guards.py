"""What the host checks of that which a bridge's port sends: hardware addresses, and whom it speaks for.

All of it is in the record of the attachment: `guarded`, `guardedAddresses`, and what the port may be.
"""

from __future__ import annotations

from cni.attachment import teardown

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from cni.fields import Fields
    from cni.request import Request


def add(request: Request, made: Fields) -> None:
    """Make the guards that the record speaks of; those that are there stay."""
    port, mac, owner = _subject(request, made)
    if made.boolean("guarded"):
        from cni.nft import mac_guard

        mac_guard.add(port, mac, owner)
    if made.boolean("guardedAddresses"):
        from cni.nft import address_guard

        address_guard.add(port, mac, teardown.recorded_ips(made), owner)


def remove(request: Request, made: Fields) -> None:
    port, mac, owner = _subject(request, made)
    if made.boolean("guarded"):
        from cni.nft import mac_guard

        mac_guard.remove(port, mac, owner)
    if made.boolean("guardedAddresses"):
        from cni.nft import address_guard

        address_guard.remove(port, mac, teardown.recorded_ips(made), owner)


def missing(request: Request, made: Fields) -> str:
    """What is no longer guarded against, "" when all is that should be."""
    port, mac, owner = _subject(request, made)
    if made.boolean("guarded"):
        from cni.nft import mac_guard

        if not mac_guard.is_complete(port, mac, owner):
            return "forged MAC addresses"
    if made.boolean("guardedAddresses"):
        from cni.nft import address_guard

        if not address_guard.is_complete(port, mac, teardown.recorded_ips(made), owner):
            return "forged ARP and neighbour advertisements"
    return ""


def _subject(request: Request, made: Fields) -> tuple[str, str, str]:
    return made.string("veth"), made.string("containerMAC"), teardown.owner(request)
