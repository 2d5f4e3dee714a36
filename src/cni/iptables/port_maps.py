"""Port mappings by iptables, in the reference plugins' layout.

A chain for the container holds its translations. The chains that lead there are shared and stay, as those of
the reference do. One more chain than theirs, in the table raw, keeps others from reaching this host's
127.0.0.0/8 by an interface from which it answers there (CVE-2020-8558).
"""

from __future__ import annotations

from cni.attachment.names import digest
from cni.iptables import presence, rules
from cni.iptables.presence import DNAT_CHAIN
from cni.iptables.rules import Rules
from cni.types.mapping import NO_SNAT, SNAT_ALL, Busy

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni.types.address import Cidr
    from cni.types.mapping import Mapping, Plan

_TABLE = "nat"
_SETMARK, _MASQUERADE, _GUARD = "CNI-HOSTPORT-SETMARK", "CNI-HOSTPORT-MASQ", "CNI-HOSTPORT-LOCAL"
_PREFIX = "CNI-DN-"
_PORTS_IN_RULE = 15  # of the match multiport
_TO_THIS_HOST = ("-m", "addrtype", "--dst-type", "LOCAL", "-j", DNAT_CHAIN)
_FROM_OUTSIDE = ("!", "-i", "lo", "-d", "127.0.0.0/8")


def add(plan: Plan, targets: Sequence[Cidr], network: str, container_id: str) -> None:
    """Map ports to the container's addresses `targets`, at most one of each family. Raises Busy."""
    for target in targets:
        if _own(plan, target):
            rules.change(
                target.v6,
                lambda found, target=target: _add(found, plan, target, network, container_id),  # type: ignore[misc]
            )


def remove_all(network: str, container_id: str) -> None:
    """Remove what anybody made for a container on a network; the shared chains stay."""
    chain = _chain(network, container_id)
    for v6 in (False, True):
        if presence.exists(_TABLE, chain, v6=v6):
            rules.change(v6, lambda found: found.delete_chain(_TABLE, chain))


def is_complete(
    plan: Plan, targets: Sequence[Cidr], network: str, container_id: str, *, guarded: bool = True
) -> bool:
    """Whether all of it is in place; without the chain in raw when it need not be `guarded`."""
    chain = _chain(network, container_id)
    for target in targets:
        own = _own(plan, target)
        if not own:
            continue
        found = rules.read(v6=target.v6)
        for table, where, rule in _shared(plan, target):
            # Of two networks with marks of their own the last one's is everybody's.
            marks = where in (_SETMARK, _MASQUERADE)
            if table == "raw" and not guarded:
                continue
            if not (found.of(table, where) if marks else found.has(table, where, rule)):
                return False
        if not all(found.has(_TABLE, chain, each) for each in _translations(plan, target, own)):
            return False
        # iptables prints the words of a condition in an order of its own.
        entries = _entries(plan.mappings, network, container_id, ())
        if not all(found.has(_TABLE, DNAT_CHAIN, each, loosely=True) for each in entries):
            return False
    return True


def refuse_taken(plan: Plan, targets: Sequence[Cidr]) -> None:
    """Raise Busy when a port is mapped by iptables, for a backend that would not see it."""
    for target in targets:
        if _own(plan, target):
            _refuse_taken(rules.read(v6=target.v6), _own(plan, target), "")


def _add(found: Rules, plan: Plan, target: Cidr, network: str, container_id: str) -> None:
    own = _own(plan, target)
    chain = _chain(network, container_id)
    _refuse_taken(found, own, chain)
    # What an earlier ADD left is not what is wanted now.
    found.delete_chain(_TABLE, chain)
    for table, name, rule in _shared(plan, target):
        for made in (name, rules.target(rule)):
            if made.startswith("CNI-"):
                found.make_chain(table, made)
        if name == "POSTROUTING":
            found.insert(table, name, rule)
        elif name in (_SETMARK, _MASQUERADE) and not found.has(table, name, rule):
            found.flush(table, name)
            found.append(table, name, rule)
        else:
            found.append(table, name, rule)
    found.make_chain(_TABLE, chain)
    for rule in _translations(plan, target, own):
        found.append(_TABLE, chain, rule)
    for rule in _entries(plan.mappings, network, container_id, plan.conditions.get(target.v6, ())):
        found.append(_TABLE, DNAT_CHAIN, rule)


def _shared(plan: Plan, target: Cidr) -> list[tuple[str, str, tuple[str, ...]]]:
    """(table, chain, rule) of what all containers have together."""
    shared: list[tuple[str, str, tuple[str, ...]]] = []
    if plan.snat != NO_SNAT:
        if not plan.mark_chain:
            mark = f"{1 << plan.mark:#x}/{1 << plan.mark:#x}"
            said = rules.comment("CNI portfwd requiring masquerade")
            setting = (*rules.comment("CNI portfwd masquerade mark"), "-j", "MARK", "--set-xmark", mark)
            shared += [
                (_TABLE, _SETMARK, setting),
                (_TABLE, _MASQUERADE, ("-m", "mark", "--mark", mark, "-j", "MASQUERADE")),
                (_TABLE, "POSTROUTING", (*said, "-j", _MASQUERADE)),
            ]
        if not target.v6:
            shared += [
                ("raw", _GUARD, (*_FROM_OUTSIDE, "-j", "DROP")),
                ("raw", "PREROUTING", ("-j", _GUARD)),
            ]
    return [*shared, (_TABLE, "PREROUTING", _TO_THIS_HOST), (_TABLE, "OUTPUT", _TO_THIS_HOST)]


def _translations(plan: Plan, target: Cidr, own: Sequence[Mapping]) -> list[tuple[str, ...]]:
    """The rules of the container's chain."""
    if plan.snat == NO_SNAT:
        sources: list[tuple[str, ...]] = []
    elif plan.snat == SNAT_ALL:
        sources = [()]
    else:
        sources = [("-s", str(target.network)), *([] if target.v6 else [("-s", "127.0.0.1/32")])]
    made: list[tuple[str, ...]] = []
    for each in own:
        at = ("-d", f"{each.host_ip}/{128 if target.v6 else 32}") if each.is_specific else ()
        match = (*at, "-p", each.protocol, "-m", each.protocol, "--dport", str(each.host_port))
        made += [(*source, *match, "-j", plan.mark_chain or _SETMARK) for source in sources]
        address = f"[{target.address}]" if target.v6 else target.address
        made.append((*match, "-j", "DNAT", "--to-destination", f"{address}:{each.container_port}"))
    return made


def _entries(
    mappings: Sequence[Mapping], network: str, container_id: str, conditions: Sequence[str]
) -> list[tuple[str, ...]]:
    """The rules that lead to the container's chain: as in the reference, of the ports of both families."""
    said = rules.comment(f'dnat name: "{network}" id: "{container_id}"')
    ports: dict[str, list[str]] = {}
    for each in mappings:
        known = ports.setdefault(each.protocol, [])
        if str(each.host_port) not in known:
            known.append(str(each.host_port))
    entries = []
    for protocol, numbers in ports.items():
        for start in range(0, len(numbers), _PORTS_IN_RULE):
            some = ",".join(numbers[start : start + _PORTS_IN_RULE])
            match = ("-p", protocol, *said, "-m", "multiport", "--dports", some)
            entries.append((*match, *conditions, "-j", _chain(network, container_id)))
    return entries


def _refuse_taken(found: Rules, own: Sequence[Mapping], chain: str) -> None:
    """Two mappings of one port are none: the second would get nothing."""
    for other in found.chains(_TABLE, _PREFIX):
        if other == chain:
            continue
        for rule in found.of(_TABLE, other):
            if rules.target(rule) != "DNAT":
                continue
            address = rules.value(rule, "-d").partition("/")[0]
            for each in own:
                if (
                    rules.value(rule, "-p") == each.protocol
                    and rules.value(rule, "--dport") == str(each.host_port)
                    and (not address or not each.is_specific or address == each.host_ip)
                ):
                    raise Busy(f"host port {each.host_port}", _owner(found, other))


def _owner(found: Rules, chain: str) -> str:
    """The container and network of a chain, as the comment of the rule that leads there says."""
    for _, rule in found.leading_to(_TABLE, chain):
        said = rules.value(rule, "--comment").split('"')
        if len(said) > 3:
            return f"{said[1]}/{said[3]}"
    return ""


def _own(plan: Plan, target: Cidr) -> list[Mapping]:
    return [each for each in plan.mappings if each.concerns(v6=target.v6)]


def _chain(network: str, container_id: str) -> str:
    return f"{_PREFIX}{digest(network + container_id, 28 - len(_PREFIX))}"
