"""Masquerade: what a container sends out of its network gets the address of the host.

Not within the network, and not to multicast groups. One element for each address of each attachment, one
chain for each subnet.
"""

from __future__ import annotations

from cni.nft.tables import Session, Table
from linux.netlink.nftables import expressions, objects
from linux.netlink.nftables.objects import INET, POSTROUTING, SRCNAT, Element, Set

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni.nft.tables import Later
    from cni.types.address import Cidr
    from linux.netlink.wire import Request

_NAME = "rkt_masquerade"
_IPV4 = Set(INET, _NAME, "sources4", ("ipv4_addr",), ("verdict",))
_IPV6 = Set(INET, _NAME, "sources6", ("ipv6_addr",), ("verdict",))
_AF_INET, _AF_INET6 = 2, 10
_MULTICAST = {_AF_INET: "224.0.0.0/4", _AF_INET6: "ff00::/8"}


def add(addresses: Sequence[Cidr], owner: str) -> None:
    """Masquerade what comes from `addresses`, each with the length of its subnet.

    An element that is there for one of them is of a container that is gone: the address was given out anew.
    """
    with Session() as session:
        session.publish(
            TABLE,
            [_entry(each, owner) for each in addresses],
            {_chain(each): _rules(each) for each in addresses},
            is_stale=lambda _: True,
        )


def remove(addresses: Sequence[Cidr], owner: str, later: Later | None = None) -> None:
    """No longer; what is not there, or belongs to another owner by now, is passed over.

    `later`: see `Session`.
    """
    if not addresses:
        return
    with Session(later) as session:
        session.withdraw(TABLE, [_entry(each, owner) for each in addresses], owner)


def is_complete(addresses: Sequence[Cidr], owner: str) -> bool:
    """Whether all of it is in place."""
    with Session() as session:
        return session.has([_entry(each, owner) for each in addresses])


def _entry(address: Cidr, owner: str) -> tuple[Set, Element]:
    return _set(address), Element((address.address,), (expressions.JUMP, _chain(address)), owner)


def _set(address: Cidr) -> Set:
    return _IPV6 if address.v6 else _IPV4


def _chain(address: Cidr) -> str:
    # nft(8) could not read a colon.
    return f"net-{address.network}".replace(":", "-")


def _rules(address: Cidr) -> list[bytes]:
    family = _AF_INET6 if address.v6 else _AF_INET
    stay = expressions.verdict(expressions.RETURN)
    exempt = [str(address.network), _MULTICAST[family]]
    rules = [
        b"".join([*expressions.is_family(family), *expressions.is_destination_in(each), stay])
        for each in exempt
    ]
    return [*rules, expressions.masquerade()]


def _skeleton() -> list[Request]:
    requests = [
        objects.add_table(INET, _NAME),
        objects.add_set(_IPV4),
        objects.add_set(_IPV6),
        objects.add_base_chain(INET, _NAME, "postrouting", kind="nat", hook=POSTROUTING, priority=SRCNAT),
    ]
    for family, target in ((_AF_INET, _IPV4), (_AF_INET6, _IPV6)):
        rule = [
            *expressions.is_family(family),
            expressions.load_source(family),
            expressions.verdict_from_map(target.name),
        ]
        requests.append(objects.add_rule(INET, _NAME, "postrouting", *rule))
    return requests


TABLE = Table(INET, _NAME, 3, _skeleton)
