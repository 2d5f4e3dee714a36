"""Who may reach a container through this host: an element for each address, a chain for a policy and bridge.

The chain "admin" is for rules of the administrator, before those of the plugins; while it has any the table
stays. What a table of nftables accepts another one may still drop: nothing here opens what others shut.
"""

from __future__ import annotations

from cni.attachment.names import digest
from cni.nft.tables import Session, Table
from linux.netlink.nftables import expressions, listing, objects
from linux.netlink.nftables.objects import FILTER, FORWARD, INET, Element, Set
from linux.netlink.socket import NETFILTER, Socket

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni.types.address import Cidr
    from linux.netlink.wire import Request

OPEN, SAME_BRIDGE, ISOLATED = "open", "same-bridge", "isolated"

_NAME = "rkt_firewall"
_ADMIN = "admin"
_AF_INET, _AF_INET6 = 2, 10
_MEMBERS = {
    _AF_INET: Set(INET, _NAME, "members4", ("ipv4_addr",), ("verdict",)),
    _AF_INET6: Set(INET, _NAME, "members6", ("ipv6_addr",), ("verdict",)),
}
# Bridges whose containers have a policy: what comes from them is not for those of another one.
_BRIDGES = {
    SAME_BRIDGE: Set(INET, _NAME, "same_bridge", ("ifname",)),
    ISOLATED: Set(INET, _NAME, "isolated", ("ifname",)),
}
# What nft(8) can read in the name of a chain.
_READABLE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


def add(addresses: Sequence[Cidr], policy: str, bridge: str, owner: str) -> None:
    """Let `policy` decide what reaches `addresses`, which are those of a container on `bridge`.

    OPEN: everything, and `bridge` does not matter. SAME_BRIDGE: nothing from another bridge that has a
    policy. ISOLATED: nothing from its own bridge either. An element that is there for an address is of a
    container that is gone. Without addresses, as on a network of layer 2, there is nothing to decide.
    """
    if not addresses:
        return
    chain = _chain(policy, bridge)
    entries = [*_entries(addresses, policy, bridge, owner), *_shared(policy, bridge)]
    with Session() as session:
        session.publish(TABLE, entries, {chain: _rules(policy, bridge)}, is_stale=lambda _: True)


def remove(addresses: Sequence[Cidr], policy: str, bridge: str, owner: str) -> None:
    """No longer; what is not there, or somebody else's, is passed over."""
    entries = _entries(addresses, policy, bridge, owner)
    with Session() as session:
        session.withdraw(TABLE, entries, owner, shared={_chain(policy, bridge): _shared(policy, bridge)})


def is_complete(addresses: Sequence[Cidr], policy: str, bridge: str, owner: str) -> bool:
    """Whether all of it is in place, the policy's rules too."""
    if not addresses:
        return True
    entries = _entries(addresses, policy, bridge, owner)
    rules = {_chain(policy, bridge): len(_rules(policy, bridge)), "forward": _FORWARD_RULES}
    with Session() as session:
        return session.has([*entries, *_shared(policy, bridge)]) and all(
            len(listing.rules(session.socket, INET, _NAME, name)) >= count for name, count in rules.items()
        )


def shut_elsewhere() -> list[tuple[int, str, str]]:
    """(family, table, chain) of those whose policy drops what this host would forward.

    Families are IPv4 2, IPv6 10, both 1. What rules do is not looked at.
    """
    with Socket(NETFILTER) as socket:
        return [
            (each.family, each.table, each.name)
            for each in listing.base_chains(socket)
            if each.hook == FORWARD and not each.accepts and each.family in (INET, _AF_INET, _AF_INET6)
        ]


def _entries(addresses: Sequence[Cidr], policy: str, bridge: str, owner: str) -> list[tuple[Set, Element]]:
    # The chain says how many there are; without one the table would go with the first of them.
    value = (expressions.JUMP, _chain(policy, bridge))
    return [
        (_MEMBERS[_AF_INET6 if each.v6 else _AF_INET], Element((each.address,), value, owner))
        for each in addresses
    ]


def _shared(policy: str, bridge: str) -> list[tuple[Set, Element]]:
    """What the containers of a bridge and a policy have together."""
    return [] if policy == OPEN else [(_BRIDGES[policy], Element((bridge,)))]


def _chain(policy: str, bridge: str) -> str:
    if policy == OPEN:
        return OPEN
    readable = bridge if _READABLE.issuperset(bridge) else digest(bridge, 16)
    return f"{policy}-{readable}"


def _rules(policy: str, bridge: str) -> list[bytes]:
    """Of what goes to a container: what comes from which bridge."""
    if policy == OPEN:
        return [expressions.verdict(expressions.ACCEPT)]
    drop = expressions.verdict(expressions.DROP)
    own = drop if policy == ISOLATED else expressions.verdict(expressions.RETURN)
    others = [
        b"".join([expressions.load_input_name(), expressions.in_set(each.name), drop])
        for each in _BRIDGES.values()
    ]
    return [b"".join([*expressions.is_input(bridge), own]), *others]


def _skeleton() -> list[Request]:
    requests = [objects.add_table(INET, _NAME)]
    requests += [objects.add_set(each) for each in (*_MEMBERS.values(), *_BRIDGES.values())]
    requests += [
        objects.add_chain(INET, _NAME, _ADMIN),
        objects.add_base_chain(INET, _NAME, "forward", kind="filter", hook=FORWARD, priority=FILTER),
        objects.add_rule(INET, _NAME, "forward", expressions.verdict(expressions.JUMP, _ADMIN)),
    ]
    for family, members in _MEMBERS.items():
        rule = [
            *expressions.is_family(family),
            expressions.load_destination(family),
            expressions.verdict_from_map(members.name),
        ]
        requests.append(objects.add_rule(INET, _NAME, "forward", *rule))
    return requests


_FORWARD_RULES = 3
TABLE = Table(INET, _NAME, 6, _skeleton, kept_for=_ADMIN)
