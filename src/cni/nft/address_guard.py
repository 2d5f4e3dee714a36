"""arpspoofchk: by ARP and neighbour discovery a bridge's port speaks for the container's own addresses alone.

Whoever could speak for others would get their traffic, or be the way out of the network for all.
"""

from __future__ import annotations

from cni.nft.tables import Session, Table
from cni.types.address import format_ip
from linux.netlink.nftables import expressions, objects
from linux.netlink.nftables.objects import BRIDGE, PREROUTING, RAW, Element, Set

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni.types.address import Cidr
    from linux.netlink.wire import Request

_NAME = "rkt_arpspoof"
_PORTS = Set(BRIDGE, _NAME, "ports", ("ifname",), ("verdict",))
_SENDERS = Set(BRIDGE, _NAME, "senders", ("ifname", "ipv4_addr"))
_NEIGHBOURS = Set(BRIDGE, _NAME, "neighbours", ("ifname", "ipv6_addr"))
_CHAIN = "checked"
_IFNAME_REGISTERS = 4
_META_PROTOCOL = 1
_NETWORK, _TRANSPORT = 1, 2
_AT_LEAST, _AT_MOST = 5, 3
_ARP = b"\x08\x06"
_ICMP6 = 58
_IPV6 = 10
# RFC 4861: neighbour discovery is router solicitation to redirect; its advertisement names a target.
_FIRST, _ADVERTISEMENT, _LAST = b"\x85", b"\x88", b"\x89"


def add(port: str, mac: str, addresses: Sequence[Cidr], owner: str) -> None:
    """From now on `port` may speak for `addresses`, and the link-local one that `mac` gives, only."""
    with Session() as session:
        entries = _entries(port, mac, addresses, owner)
        session.publish(TABLE, entries, {_CHAIN: _rules()}, is_stale=lambda _: True)


def remove(port: str, mac: str, addresses: Sequence[Cidr], owner: str) -> None:
    with Session() as session:
        session.withdraw(TABLE, _entries(port, mac, addresses, owner), owner)


def is_complete(port: str, mac: str, addresses: Sequence[Cidr], owner: str) -> bool:
    with Session() as session:
        return session.has(_entries(port, mac, addresses, owner))


def _entries(port: str, mac: str, addresses: Sequence[Cidr], owner: str) -> list[tuple[Set, Element]]:
    raw = bytes.fromhex(mac.replace(":", ""))
    local = b"\xfe\x80" + bytes(6) + bytes([raw[0] ^ 2]) + raw[1:3] + b"\xff\xfe" + raw[3:]
    # Nobody believes the unspecified address: who asks whether an address is free has no other yet.
    allowed = [bytes(4), bytes(16), local, *(each.packed for each in addresses)]
    speaking = [
        (_SENDERS if len(each) == 4 else _NEIGHBOURS, Element((port, format_ip(each)), comment=owner))
        for each in dict.fromkeys(allowed)
    ]
    return [*speaking, (_PORTS, Element((port,), (expressions.JUMP, _CHAIN), owner))]


def _rules() -> list[bytes]:
    drop = expressions.verdict(expressions.DROP)
    port = expressions.load_input_name()
    discovery = [*expressions.is_protocol(_ICMP6), expressions.load_payload(_TRANSPORT, 0, 1)]
    sender = [
        expressions.load_meta(_META_PROTOCOL),
        expressions.compare(_ARP),
        port,
        expressions.load_payload(_NETWORK, 14, 4, register=_IFNAME_REGISTERS),
        expressions.in_set(_SENDERS.name, negated=True),
        drop,
    ]
    target = [
        *discovery,
        expressions.compare(_ADVERTISEMENT),
        port,
        expressions.load_payload(_TRANSPORT, 8, 16, register=_IFNAME_REGISTERS),
        expressions.in_set(_NEIGHBOURS.name, negated=True),
        drop,
    ]
    source = [
        *discovery,
        expressions.compare(_FIRST, operator=_AT_LEAST),
        expressions.compare(_LAST, operator=_AT_MOST),
        port,
        expressions.load_source(_IPV6, register=_IFNAME_REGISTERS),
        expressions.in_set(_NEIGHBOURS.name, negated=True),
        drop,
    ]
    return [b"".join(each) for each in (sender, target, source)]


def _skeleton() -> list[Request]:
    rule = [expressions.load_input_name(), expressions.verdict_from_map(_PORTS.name)]
    return [
        objects.add_table(BRIDGE, _NAME),
        objects.add_set(_PORTS),
        objects.add_set(_SENDERS),
        objects.add_set(_NEIGHBOURS),
        objects.add_base_chain(BRIDGE, _NAME, "prerouting", kind="filter", hook=PREROUTING, priority=RAW),
        objects.add_rule(BRIDGE, _NAME, "prerouting", *rule),
    ]


TABLE = Table(BRIDGE, _NAME, 4, _skeleton)
