"""Port mappings: what comes to a port of this host goes to a container.

One element for each mapping, so that a port that somebody has is known by its element; one element for each
address that is mapped to, for the packets whose source must be changed as well. Only packets for an address
of this host are looked at: those that it forwards are not its business (CVE-2025-67499).
"""

from __future__ import annotations

import errno

from cni.nft.tables import Session, Table
from linux.netlink import link
from linux.netlink.batch import Batch
from linux.netlink.nftables import expressions, listing, objects
from linux.netlink.nftables.objects import INET, OUTPUT, POSTROUTING, PREROUTING, RAW, SRCNAT, Element, Set
from linux.netlink.nftables.types import PROTOCOLS
from linux.netlink.socket import ROUTE, Socket

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cni.fields import Fields
    from cni.types.address import Cidr
    from linux.netlink.wire import Request

SNAT, SNAT_ALL, NO_SNAT = "snat", "all", "none"

_NAME = "rkt_portmap"
_AF_INET, _AF_INET6 = 2, 10
_ADDRESSES = {_AF_INET: "ipv4_addr", _AF_INET6: "ipv6_addr"}


_PORT = ("inet_proto", "inet_service")
_PORTS = {
    family: Set(INET, _NAME, name, _PORT, (_ADDRESSES[family], "inet_service"))
    for family, name in ((_AF_INET, "ports4"), (_AF_INET6, "ports6"))
}
_PORTS_AT = {
    family: Set(INET, _NAME, name, (_ADDRESSES[family], *_PORT), (_ADDRESSES[family], "inet_service"))
    for family, name in ((_AF_INET, "ports_at4"), (_AF_INET6, "ports_at6"))
}
_TARGETS = {
    family: Set(INET, _NAME, name, (_ADDRESSES[family],), ("verdict",))
    for family, name in ((_AF_INET, "targets4"), (_AF_INET6, "targets6"))
}
# Bridges whose containers may answer this host's 127.0.0.1.
_LOCALNET = Set(INET, _NAME, "localnet", ("ifname",))
_IPV4_ROUTE_LOCALNET = 26  # linux/ip.h


class Mapping:
    """One mapping: `protocol` and `host_port`, at `host_ip` or ("") at every address, to `container_port`."""

    __slots__ = ("container_port", "host_ip", "host_port", "protocol")

    def __init__(self, protocol: str, host_ip: str, host_port: int, container_port: int) -> None:
        self.protocol = protocol
        self.host_ip = host_ip
        self.host_port = host_port
        self.container_port = container_port

    @classmethod
    def from_json(cls, fields: Fields) -> Mapping:
        """As a record has it."""
        return cls(
            fields.string("protocol"),
            fields.string("hostIP"),
            fields.integer("hostPort"),
            fields.integer("containerPort"),
        )

    def to_json(self) -> dict[str, object]:
        return {
            "protocol": self.protocol,
            "hostIP": self.host_ip,
            "hostPort": self.host_port,
            "containerPort": self.container_port,
        }

    def concerns(self, *, v6: bool) -> bool:
        """Whether it is for that family: every one is, unless its host address is of the other."""
        return not self.host_ip or (":" in self.host_ip) == v6

    @property
    def is_specific(self) -> bool:
        return self.host_ip not in ("", "0.0.0.0", "::")  # noqa: S104  compared with, not listened on


def add(
    mappings: Sequence[Mapping],
    targets: Sequence[Cidr],
    owner: str,
    *,
    snat: str,
    is_stale: Callable[[str], bool],
) -> None:
    """Map ports to the container's addresses `targets`, at most one of each family.

    `snat` SNAT: containers of the same subnet, and this host at 127.0.0.1, reach the port too; SNAT_ALL:
    every sender's address is changed; NO_SNAT: none's. `tables.Busy` when a port is somebody's already,
    unless `is_stale` says that its owner is gone.
    """
    with Session() as session:
        session.publish(
            TABLE,
            _entries(mappings, targets, owner, snat),
            {_chain(each, snat): _source_rules(each, snat) for each in targets},
            is_stale=is_stale,
        )


def remove(mappings: Sequence[Mapping], targets: Sequence[Cidr], owner: str, *, snat: str) -> None:
    """No longer; what is not there, or somebody else's, is passed over."""
    entries = _entries(mappings, targets, owner, snat)
    with Session() as session:
        session.withdraw(TABLE, entries, owner, before_delete=lambda: _shut_localnet(session))


def is_complete(mappings: Sequence[Mapping], targets: Sequence[Cidr], owner: str, *, snat: str) -> bool:
    """Whether all of it is in place."""
    with Session() as session:
        return session.has(_entries(mappings, targets, owner, snat))


def open_localnet(interface: str, *, lasting: bool) -> None:
    """Let packets from 127.0.0.1 go out, translated, by the host's `interface`, and their answers come in.

    Call it after `add`, which has put the rule into place that drops what others send to 127.0.0.0/8 by that
    interface (CVE-2020-8558). A `lasting` interface, a bridge, is remembered: when the rule goes, it is shut.
    """
    with Session() as session:
        if lasting and listing.element(session.socket, _LOCALNET, (interface,)) is None:
            session.publish(TABLE, [(_LOCALNET, Element((interface,)))], {}, is_stale=lambda _: True)
        with Socket(ROUTE) as socket:
            _set_localnet(socket, interface, 1)


def is_pair(interface: str) -> bool:
    """Whether an interface of the host is the end of a pair: one that is an attachment's alone."""
    with Socket(ROUTE) as socket:
        found = link.get(socket, interface)
    return found is not None and found.kind == "veth"


def shut_localnet(interface: str) -> None:
    """Take back `open_localnet` for an interface that no other attachment uses; it may be gone."""
    with Socket(ROUTE) as socket:
        _set_localnet(socket, interface, 0)


def _shut_localnet(session: Session) -> None:
    with Socket(ROUTE) as socket:
        for each in listing.elements(session.socket, _LOCALNET):
            _set_localnet(socket, str(each.key[0]), 0)


def _set_localnet(socket: Socket, interface: str, value: int) -> None:
    batch = Batch(socket)
    request = link.set_addressing(interface, ipv4={_IPV4_ROUTE_LOCALNET: value})
    batch.add(request.tolerating(errno.ENODEV))
    batch.commit()


def _entries(
    mappings: Sequence[Mapping], targets: Sequence[Cidr], owner: str, snat: str
) -> list[tuple[Set, Element]]:
    entries = []
    for target in targets:
        family = _AF_INET6 if target.v6 else _AF_INET
        jump = (expressions.JUMP, _chain(target, snat))
        entries.append((_TARGETS[family], Element((target.address,), jump, owner)))
        for each in mappings:
            if not each.concerns(v6=target.v6):
                continue
            key = (PROTOCOLS[each.protocol], each.host_port)
            value = (target.address, each.container_port)
            if each.is_specific:
                entries.append((_PORTS_AT[family], Element((each.host_ip, *key), value, owner)))
            else:
                entries.append((_PORTS[family], Element(key, value, owner)))
    return entries


def _chain(target: Cidr, snat: str) -> str:
    # nft(8) could not read a colon.
    return f"{snat}-{target.network}".replace(":", "-")


def _source_rules(target: Cidr, snat: str) -> list[bytes]:
    """For connections that go to `target`'s subnet through a mapping: whose source is changed.

    A neighbour of the container would be answered directly, from an address it has not called; and no answer
    to 127.0.0.1 would ever come back.
    """
    masquerade = expressions.masquerade()
    if snat == SNAT_ALL:
        return [masquerade]
    if snat == NO_SNAT:
        return []
    family = _AF_INET6 if target.v6 else _AF_INET
    sources = [str(target.network), *([] if target.v6 else ["127.0.0.0/8"])]
    return [
        b"".join([*expressions.is_family(family), *expressions.is_source_in(each), masquerade])
        for each in sources
    ]


def _port_rules() -> list[list[bytes]]:
    """The chain of all mappings: those at one address before those at every address."""
    rules = []
    for family in (_AF_INET, _AF_INET6):
        registers = 1 if family == _AF_INET else 4
        if family == _AF_INET6:
            # Nothing from ::1 may leave the host; who listens there is to be reached.
            leave = expressions.verdict(expressions.RETURN)
            rules.append([*expressions.is_family(family), *expressions.is_destination_in("::1"), leave])
        translate = expressions.dnat(family, address=0, port=registers)
        rules.append([
            *expressions.is_family(family),
            expressions.load_destination(family),
            expressions.load_l4_protocol(register=registers),
            expressions.load_destination_port(register=registers + 1),
            expressions.from_map(_PORTS_AT[family].name),
            translate,
        ])
        rules.append([
            *expressions.is_family(family),
            expressions.load_l4_protocol(),
            expressions.load_destination_port(register=1),
            expressions.from_map(_PORTS[family].name),
            translate,
        ])
    return rules


def _skeleton() -> list[Request]:
    sets = [*_PORTS.values(), *_PORTS_AT.values(), *_TARGETS.values(), _LOCALNET]
    requests = [objects.add_table(INET, _NAME), *[objects.add_set(each) for each in sets]]
    requests.append(objects.add_chain(INET, _NAME, "ports"))
    requests += [objects.add_rule(INET, _NAME, "ports", *rule) for rule in _port_rules()]
    for name, hook in (("prerouting", PREROUTING), ("output", OUTPUT)):
        jump = expressions.verdict(expressions.JUMP, "ports")
        requests += [
            objects.add_base_chain(INET, _NAME, name, kind="nat", hook=hook, priority=objects.DSTNAT),
            objects.add_rule(INET, _NAME, name, *expressions.is_to_this_host(), jump),
        ]
    requests.append(
        objects.add_base_chain(INET, _NAME, "postrouting", kind="nat", hook=POSTROUTING, priority=SRCNAT)
    )
    for family, target in _TARGETS.items():
        rule = [
            *expressions.is_translated_destination(),
            *expressions.is_family(family),
            expressions.load_destination(family),
            expressions.verdict_from_map(target.name),
        ]
        requests.append(objects.add_rule(INET, _NAME, "postrouting", *rule))
    guard = [
        *expressions.is_input("lo", negated=True),
        *expressions.is_family(_AF_INET),
        *expressions.is_destination_in("127.0.0.0/8"),
        expressions.verdict(expressions.DROP),
    ]
    return [
        *requests,
        objects.add_base_chain(INET, _NAME, "localnet_guard", kind="filter", hook=PREROUTING, priority=RAW),
        objects.add_rule(INET, _NAME, "localnet_guard", *guard),
    ]


TABLE = Table(INET, _NAME, 12, _skeleton)
