"""The firewall plugin's iptables rules, in the reference plugin's layout.

In CNI-FORWARD two rules for each address, which accept where the policy of FORWARD would drop, after what the
administrator has in a chain of his own. Rules of an ingress policy are a bridge's, and stay as the
reference's do: the bridge may have containers that another implementation put there.
"""

from __future__ import annotations

from cni.iptables import presence, rules
from cni.iptables.rules import Rules
from cni.nft.firewall import ISOLATED, OPEN

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni.types.address import Cidr

ADMIN = "CNI-ADMIN"
_TABLE = "filter"
_FORWARD = "CNI-FORWARD"
_STAGE_1, _STAGE_2 = "CNI-ISOLATION-STAGE-1", "CNI-ISOLATION-STAGE-2"
_ESTABLISHED = ("-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED")
_POLICIES = rules.comment("CNI firewall plugin rules (ingressPolicy: same-bridge|isolated)")
_RETURN = (*_POLICIES, "-j", "RETURN")


def add(addresses: Sequence[Cidr], policy: str, bridge: str, admin: str) -> None:
    """Accept what `addresses` send, and the answers; `policy` (of `cni.nft.firewall`) as the reference's."""
    for v6 in (False, True):
        own = [each for each in addresses if each.v6 is v6]
        if own:
            rules.change(v6, lambda found, own=own: _add(found, own, policy, bridge, admin))  # type: ignore[misc]


def remove(addresses: Sequence[Cidr]) -> None:
    """No longer. What is not there is passed over, and so is a host without iptables."""
    for v6 in (False, True):
        own = [each for each in addresses if each.v6 is v6]
        if own and presence.exists(_TABLE, _FORWARD, v6=v6):
            rules.change(v6, lambda found, own=own: _remove(found, own))  # type: ignore[misc]


def is_complete(addresses: Sequence[Cidr], policy: str, bridge: str, admin: str) -> bool:
    """Whether all of it is in place."""
    for v6 in (False, True):
        own = [each for each in addresses if each.v6 is v6]
        if not own:
            continue
        found = rules.read(v6=v6)
        wanted = [("FORWARD", _to_forward()), (_FORWARD, _to_admin(admin))]
        wanted += [(_FORWARD, rule) for each in own for rule in _accepting(each)]
        if not all(found.has(_TABLE, chain, rule) for chain, rule in wanted):
            return False
        if not all(_has(found, chain, rule) for chain, rule in _isolating(policy, bridge)):
            return False
    return True


def _add(found: Rules, own: Sequence[Cidr], policy: str, bridge: str, admin: str) -> None:
    for chain in (_FORWARD, admin):
        found.make_chain(_TABLE, chain)
    found.insert(_TABLE, "FORWARD", _to_forward())
    found.insert(_TABLE, _FORWARD, _to_admin(admin))
    for each in own:
        for rule in _accepting(each):
            found.append(_TABLE, _FORWARD, rule)
    if policy != OPEN:
        for chain in (_STAGE_1, _STAGE_2):
            found.make_chain(_TABLE, chain)
            if not _has(found, chain, _RETURN):
                found.append(_TABLE, chain, _RETURN)
        for chain, rule in _isolating(policy, bridge):
            if not _has(found, chain, rule):
                found.insert(_TABLE, chain, rule)


def _remove(found: Rules, own: Sequence[Cidr]) -> None:
    for each in own:
        for rule in _accepting(each):
            found.remove(_TABLE, _FORWARD, rule)


def _has(found: Rules, chain: str, rule: tuple[str, ...]) -> bool:
    """Whether a chain has a policy's rule; its comment is not the same in all versions of the reference."""
    at = rule.index("-m")
    return found.has(_TABLE, chain, rule[:at] + rule[at + len(_POLICIES) :], loosely=True)


def _to_forward() -> tuple[str, ...]:
    return (*rules.comment("CNI firewall plugin rules"), "-j", _FORWARD)


def _to_admin(admin: str) -> tuple[str, ...]:
    return (*rules.comment("CNI firewall plugin admin overrides"), "-j", admin)


def _accepting(address: Cidr) -> list[tuple[str, ...]]:
    host = str(address.host)
    return [("-d", host, *_ESTABLISHED, "-j", "ACCEPT"), ("-s", host, "-j", "ACCEPT")]


def _isolating(policy: str, bridge: str) -> list[tuple[str, tuple[str, ...]]]:
    """(chain, rule) of a policy, the later ones to go in front of the earlier ones."""
    if policy == OPEN:
        return []
    said = rules.comment(f"CNI firewall plugin rules (ingressPolicy: {policy})")
    made: list[tuple[str, tuple[str, ...]]] = [
        ("FORWARD", (*_POLICIES, "-j", _STAGE_1)),
        (_STAGE_1, ("-i", bridge, "!", "-o", bridge, *said, "-j", _STAGE_2)),
        (_STAGE_2, ("-o", bridge, *_POLICIES, "-j", "DROP")),
    ]
    if policy == ISOLATED:
        made.append((_STAGE_1, ("-i", bridge, "-o", bridge, *said, "-j", "DROP")))
    return made
