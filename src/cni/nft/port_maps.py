"""Port mappings: what comes to a port of this host goes to a container.

One element for each mapping, so that a port that somebody has is known by its element; one element for each
address that is mapped to, for the packets whose source must be changed as well. Only packets for an address
of this host are looked at: those that it forwards are not its business (CVE-2025-67499).
"""

from __future__ import annotations

import errno

from cni.attachment.names import digest
from cni.nft import tables
from cni.nft.tables import Session, Table
from cni.types.mapping import NO_SNAT, SNAT_ALL, Busy
from linux.netlink import link
from linux.netlink.batch import Batch
from linux.netlink.nftables import expressions, listing, objects
from linux.netlink.nftables.objects import INET, OUTPUT, POSTROUTING, PREROUTING, RAW, SRCNAT, Element, Set
from linux.netlink.nftables.types import PROTOCOLS
from linux.netlink.socket import ROUTE, Socket

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cni.types.address import Cidr
    from cni.types.mapping import Plan
    from linux.netlink.wire import Request

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
# How many mappings at one address a port has: whether another may have it at every address.
_CLAIMS = {
    family: Set(INET, _NAME, name, _PORT, ("mark",))
    for family, name in ((_AF_INET, "claims4"), (_AF_INET6, "claims6"))
}
# Ports that only packets of some kind find mapped.
_LIMITED = {
    family: Set(INET, _NAME, name, _PORT, ("verdict",))
    for family, name in ((_AF_INET, "limited4"), (_AF_INET6, "limited6"))
}
_LIMITED_AT = {
    family: Set(INET, _NAME, name, (_ADDRESSES[family], *_PORT), ("verdict",))
    for family, name in ((_AF_INET, "limited_at4"), (_AF_INET6, "limited_at6"))
}
_RULES_OF_LIMIT = 2
# Bridges whose containers may answer this host's 127.0.0.1.
_LOCALNET = Set(INET, _NAME, "localnet", ("ifname",))
_IPV4_ROUTE_LOCALNET = 26  # linux/ip.h


def add(plan: Plan, targets: Sequence[Cidr], owner: str, *, is_stale: Callable[[str], bool]) -> None:
    """Map ports to the container's addresses `targets`, at most one of each family.

    `Busy` when a port is somebody else's already, unless `is_stale` says that its owner is gone. As with the
    kernel's bind, a port at every address and the same one at one address are the same port, unless both
    are one owner's: then the mapping at the one address goes first.
    """
    targets = plan.concerned(targets)
    chains: dict[str, Sequence[bytes]] = {
        _chain(each, plan.snat): _source_rules(each, plan.snat) for each in targets
    }
    limits = {_limit(plan, v6=each.v6): each.v6 for each in targets if plan.conditions.get(each.v6)}
    # Until its condition is in place, nothing is translated.
    chains.update({name: [expressions.verdict(expressions.ACCEPT)] for name in limits})
    entries = _entries(plan, targets, owner)
    with Session() as session:
        more = _claims(session, plan, targets, owner, is_stale)
        try:
            session.publish(TABLE, entries, chains, is_stale=is_stale, more=more)
        except tables.Busy as busy:
            raise Busy(_place(busy.key), busy.owner) from None
        for name, v6 in limits.items():
            if len(listing.rules(session.socket, INET, _NAME, name)) < _RULES_OF_LIMIT:
                from cni.nft import raw

                raw.insert_condition(_NAME, name, plan.conditions[v6])


def remove(plan: Plan, targets: Sequence[Cidr], owner: str) -> None:
    """No longer; what is not there, or somebody else's, is passed over."""
    entries = _entries(plan, targets, owner)
    with Session() as session:
        session.withdraw(
            TABLE,
            entries,
            owner,
            before_delete=lambda: _shut_localnet(session),
            more=lambda found: _unclaimed(session, found),
        )


def is_complete(plan: Plan, targets: Sequence[Cidr], owner: str) -> bool:
    """Whether all of it is in place."""
    with Session() as session:
        if not session.has(_entries(plan, targets, owner)):
            return False
        limits = {
            _limit(plan, v6=each.v6) for each in plan.concerned(targets) if plan.conditions.get(each.v6)
        }
        return all(
            len(listing.rules(session.socket, INET, _NAME, name)) >= _RULES_OF_LIMIT for name in limits
        )


def refuse_taken(plan: Plan, targets: Sequence[Cidr], is_stale: Callable[[str], bool]) -> None:
    """Raise Busy when a port is mapped here, for a backend that would not see it."""
    with Session() as session:
        for target in targets:
            for each in plan.mappings:
                if not each.concerns(v6=target.v6):
                    continue
                family = _AF_INET6 if target.v6 else _AF_INET
                key = (PROTOCOLS[each.protocol], each.host_port)
                places: list[tuple[Set, tuple[str | int, ...]]] = [(_PORTS[family], key)]
                if each.is_specific:
                    places.append((_PORTS_AT[family], (each.host_ip, *key)))
                found = [listing.element(session.socket, where, place) for where, place in places]
                found += [] if each.is_specific else _at_one_address(session, family, key)
                for element in found:
                    if element is not None and not is_stale(element.comment):
                        raise Busy(_place(element.key), element.comment)


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


def answer_localnet(interface: str) -> None:
    """`open_localnet` for who has put such a rule elsewhere."""
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


def _claims(
    session: Session, plan: Plan, targets: Sequence[Cidr], owner: str, is_stale: Callable[[str], bool]
) -> list[Request]:
    """Refuse what overlaps with another owner's; the requests that count what is mapped at one address."""
    counts: dict[tuple[int, tuple[int, int]], int] = {}
    requests: list[Request] = []

    def judge(found: Element | None, where: Set) -> bool:
        """Whether an element goes, as its owner did."""
        if found is None or found.comment == owner:
            return False
        if not is_stale(found.comment):
            raise Busy(_place(found.key), found.comment)
        requests.extend(objects.delete_elements(where, [found]))
        return True

    own = {(family, at, key) for family, at, key in _places(plan, targets)}
    for family, at, key in own:
        if at:
            if (family, "", key) not in own:
                judge(listing.element(session.socket, _PORTS[family], key), _PORTS[family])
            if listing.element(session.socket, _PORTS_AT[family], (at, *key)) is None:
                counts[family, key] = counts.get((family, key), 0) + 1
        elif listing.element(session.socket, _CLAIMS[family], key) is not None:
            for each in _at_one_address(session, family, key):
                if (family, str(each.key[0]), key) not in own and judge(each, _PORTS_AT[family]):
                    counts[family, key] = counts.get((family, key), 0) - 1
    return requests + _count(session, counts)


def _unclaimed(session: Session, found: Sequence[tuple[Set, Element]]) -> list[Request]:
    """The requests that no longer count `found`, which are about to be deleted."""
    counts: dict[tuple[int, tuple[int, int]], int] = {}
    for family, target in _PORTS_AT.items():
        for where, element in found:
            if where is target:
                key = (int(element.key[1]), int(element.key[2]))
                counts[family, key] = counts.get((family, key), 0) - 1
    return _count(session, counts)


def _count(session: Session, counts: dict[tuple[int, tuple[int, int]], int]) -> list[Request]:
    requests: list[Request] = []
    for (family, key), change in counts.items():
        before = listing.element(session.socket, _CLAIMS[family], key)
        if before is not None:
            requests += objects.delete_elements(_CLAIMS[family], [before])
        count = change + (int(before.value[0]) if before is not None else 0)
        if count > 0:
            requests += objects.add_elements(_CLAIMS[family], [Element(key, (count,))])
    return requests


def _at_one_address(session: Session, family: int, key: tuple[int, int]) -> list[Element]:
    found = listing.elements(session.socket, _PORTS_AT[family])
    return [each for each in found if each.key[1:] == key]


def _places(plan: Plan, targets: Sequence[Cidr]) -> list[tuple[int, str, tuple[int, int]]]:
    """(family, host address or "", (protocol, port)) of each mapping."""
    return [
        (
            _AF_INET6 if target.v6 else _AF_INET,
            each.host_ip if each.is_specific else "",
            (PROTOCOLS[each.protocol], each.host_port),
        )
        for target in targets
        for each in plan.mappings
        if each.concerns(v6=target.v6)
    ]


def _place(key: Sequence[str | int]) -> str:
    if len(key) == 1:
        return f"container address {key[0]}"
    *at, _, port = key
    return f"host port {port}" + (f" at {at[0]}" if at else "")


def _entries(plan: Plan, targets: Sequence[Cidr], owner: str) -> list[tuple[Set, Element]]:
    entries = []
    for target in plan.concerned(targets):
        family = _AF_INET6 if target.v6 else _AF_INET
        jump = (expressions.JUMP, _chain(target, plan.snat))
        entries.append((_TARGETS[family], Element((target.address,), jump, owner)))
        limit = (expressions.JUMP, _limit(plan, v6=target.v6))
        for each in plan.mappings:
            if not each.concerns(v6=target.v6):
                continue
            port = (PROTOCOLS[each.protocol], each.host_port)
            key = (each.host_ip, *port) if each.is_specific else port
            ports, limited = (_PORTS_AT, _LIMITED_AT) if each.is_specific else (_PORTS, _LIMITED)
            entries.append((ports[family], Element(key, (target.address, each.container_port), owner)))
            if plan.conditions.get(target.v6):
                entries.append((limited[family], Element(key, limit, owner)))
    return entries


def _limit(plan: Plan, *, v6: bool) -> str:
    """The chain of a condition, shared by all that have the same."""
    return f"when{'6' if v6 else '4'}-{digest(' '.join(plan.conditions.get(v6, ())), 16)}"


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
    """The chain of all mappings: those at one address before those at every address.

    In front of them, by the same keys, those that have a condition: the chain of the condition accepts what
    does not meet it, which ends the way through this table.
    """
    rules = []
    for family in (_AF_INET, _AF_INET6):
        registers = 1 if family == _AF_INET else 4
        if family == _AF_INET6:
            # Nothing from ::1 may leave the host; who listens there is to be reached.
            leave = expressions.verdict(expressions.RETURN)
            rules.append([*expressions.is_family(family), *expressions.is_destination_in("::1"), leave])
        at_one_address = [
            *expressions.is_family(family),
            expressions.load_destination(family),
            expressions.load_l4_protocol(register=registers),
            expressions.load_destination_port(register=registers + 1),
        ]
        at_every_address = [
            *expressions.is_family(family),
            expressions.load_l4_protocol(),
            expressions.load_destination_port(register=1),
        ]
        translate = expressions.dnat(family, address=0, port=registers)
        rules += [
            [*at_one_address, expressions.verdict_from_map(_LIMITED_AT[family].name)],
            [*at_every_address, expressions.verdict_from_map(_LIMITED[family].name)],
            [*at_one_address, expressions.from_map(_PORTS_AT[family].name), translate],
            [*at_every_address, expressions.from_map(_PORTS[family].name), translate],
        ]
    return rules


def _skeleton() -> list[Request]:
    maps = (_PORTS, _PORTS_AT, _TARGETS, _CLAIMS, _LIMITED, _LIMITED_AT)
    sets = [*[each[family] for each in maps for family in _ADDRESSES], _LOCALNET]
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


TABLE = Table(INET, _NAME, 18, _skeleton)
