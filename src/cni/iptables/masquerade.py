"""Masquerade by iptables: what a container sends out of its network gets the address of the host.

The reference plugins' layout: a chain for the container in the table nat, a jump to it for each address.
Two interfaces of one container on one network have one chain together, which goes with the last of them.
"""

from __future__ import annotations

from cni.attachment.names import digest
from cni.iptables import presence, rules
from cni.iptables.rules import Rules

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni.types.address import Cidr

_TABLE = "nat"
_MULTICAST = {False: "224.0.0.0/4", True: "ff00::/8"}


def add(addresses: Sequence[Cidr], network: str, container_id: str) -> None:
    """Masquerade what comes from `addresses`, each with the length of its subnet."""
    for v6, own in _by_family(addresses):
        rules.change(v6, lambda found, own=own: _add(found, own, network, container_id))  # type: ignore[misc]


def remove(addresses: Sequence[Cidr], network: str, container_id: str) -> None:
    """No longer. What is not there is passed over, and so is a host without iptables."""
    chain = _chain(network, container_id)
    for v6, own in _by_family(addresses):
        if presence.exists(_TABLE, chain, v6=v6):
            rules.change(v6, lambda found, own=own: _remove(found, own, network, container_id))  # type: ignore[misc]


def remove_all(network: str, container_id: str) -> None:
    """Remove what anybody made for a container on a network, whatever its addresses."""
    chain = _chain(network, container_id)
    for v6 in (False, True):
        if presence.exists(_TABLE, chain, v6=v6):
            rules.change(v6, lambda found: found.delete_chain(_TABLE, chain))


def is_complete(addresses: Sequence[Cidr], network: str, container_id: str) -> bool:
    """Whether all of it is in place."""
    chain = _chain(network, container_id)
    for v6, own in _by_family(addresses):
        found = rules.read(v6=v6)
        wanted = [(chain, each) for each in _in_chain(own, network, container_id)]
        wanted += [("POSTROUTING", _jump(each, network, container_id)) for each in own]
        if not all(found.has(_TABLE, where, rule) for where, rule in wanted):
            return False
    return True


def _add(found: Rules, own: Sequence[Cidr], network: str, container_id: str) -> None:
    chain = _chain(network, container_id)
    found.make_chain(_TABLE, chain)
    *stays, masquerade = _in_chain(own, network, container_id)
    # Another interface of the container may have rules there, of which the last takes everything.
    for each in stays:
        found.insert(_TABLE, chain, each)
    found.append(_TABLE, chain, masquerade)
    for address in own:
        found.append(_TABLE, "POSTROUTING", _jump(address, network, container_id))


def _remove(found: Rules, own: Sequence[Cidr], network: str, container_id: str) -> None:
    chain = _chain(network, container_id)
    for each in own:
        found.remove(_TABLE, "POSTROUTING", _jump(each, network, container_id))
    if not found.leading_to(_TABLE, chain):
        found.delete_chain(_TABLE, chain)


def _chain(network: str, container_id: str) -> str:
    return f"CNI-{digest(network + container_id, 24)}"


def _in_chain(own: Sequence[Cidr], network: str, container_id: str) -> list[tuple[str, ...]]:
    said = _comment(network, container_id)
    subnets = dict.fromkeys(str(each.network) for each in own)
    stays = [("-d", subnet, *said, "-j", "ACCEPT") for subnet in subnets]
    return [*stays, ("!", "-d", _MULTICAST[own[0].v6], *said, "-j", "MASQUERADE")]


def _jump(address: Cidr, network: str, container_id: str) -> tuple[str, ...]:
    chain = _chain(network, container_id)
    return ("-s", str(address.host), *_comment(network, container_id), "-j", chain)


def _comment(network: str, container_id: str) -> tuple[str, ...]:
    return rules.comment(f'name: "{network}" id: "{container_id}"')


def _by_family(addresses: Sequence[Cidr]) -> list[tuple[bool, list[Cidr]]]:
    families = [(v6, [each for each in addresses if each.v6 is v6]) for v6 in (False, True)]
    return [(v6, own) for v6, own in families if own]
