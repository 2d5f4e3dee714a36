"""macspoofchk: frames from a bridge's port are dropped unless they have the container's hardware address."""

from __future__ import annotations

from cni.nft.tables import Session, Table
from linux.netlink.nftables import expressions, objects
from linux.netlink.nftables.objects import BRIDGE, PREROUTING, RAW, Element, Set

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from linux.netlink.wire import Request

_NAME = "rkt_macspoof"
_PORTS = Set(BRIDGE, _NAME, "ports", ("ifname",), ("verdict",))
_PAIRS = Set(BRIDGE, _NAME, "pairs", ("ifname", "ether_addr"))
_CHAIN = "checked"
_IFNAME_REGISTERS = 4


def add(port: str, mac: str, owner: str) -> None:
    """From now on `port` may send only from `mac`."""
    with Session() as session:
        session.publish(TABLE, _entries(port, mac, owner), {_CHAIN: _rules()}, is_stale=lambda _: True)


def remove(port: str, mac: str, owner: str) -> None:
    with Session() as session:
        session.withdraw(TABLE, _entries(port, mac, owner), owner)


def is_complete(port: str, mac: str, owner: str) -> bool:
    with Session() as session:
        return session.has(_entries(port, mac, owner))


def _entries(port: str, mac: str, owner: str) -> list[tuple[Set, Element]]:
    return [
        (_PAIRS, Element((port, mac), comment=owner)),
        (_PORTS, Element((port,), (expressions.JUMP, _CHAIN), owner)),
    ]


def _rules() -> list[bytes]:
    known = [
        expressions.load_input_name(),
        expressions.load_source_mac(register=_IFNAME_REGISTERS),
        expressions.in_set(_PAIRS.name),
        expressions.verdict(expressions.RETURN),
    ]
    return [b"".join(known), expressions.verdict(expressions.DROP)]


def _skeleton() -> list[Request]:
    rule = [expressions.load_input_name(), expressions.verdict_from_map(_PORTS.name)]
    return [
        objects.add_table(BRIDGE, _NAME),
        objects.add_set(_PORTS),
        objects.add_set(_PAIRS),
        objects.add_base_chain(BRIDGE, _NAME, "prerouting", kind="filter", hook=PREROUTING, priority=RAW),
        objects.add_rule(BRIDGE, _NAME, "prerouting", *rule),
    ]


TABLE = Table(BRIDGE, _NAME, 3, _skeleton)
