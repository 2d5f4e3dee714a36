"""Judging what a service gave: it decides about addresses, not about anything else of this host.

A bridge may get the gateway's address with the prefix of the pod's, and resolv.conf the words of `dns`: a
service that was taken over must not lay a route over other networks, or a line into a file, by them.
"""

from __future__ import annotations

from cni.types import version as versions
from cni.types.address import Cidr, format_ip, parse_ip
from cni.types.result import Result

TYPE_CHECKING = False  # not from typing: start-up time counts here
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from cni.types.result import DNS, IPConfig, Route

_MOST_ADDRESSES, _MOST_ROUTES, _MOST_WORDS, _LONGEST_WORD = 16, 256, 32, 255


def judged(body: dict[str, object], subnets: Sequence[Cidr], version: str) -> Result:
    """The result in an answer, with every address in one of `subnets`; ValueError says what is wrong.

    `version` is the configuration's: before 0.3 there is room for one address of each family.
    """
    given = Result.from_json({**body, "cniVersion": versions.LATEST, "interfaces": None})
    if not 0 < len(given.ips) <= _MOST_ADDRESSES:
        raise ValueError(f"{len(given.ips)} addresses")
    if len(given.routes) > _MOST_ROUTES:
        raise ValueError(f"{len(given.routes)} routes")
    for each in given.ips:
        _judge_address(each, subnets)
    if len({each.address.packed for each in given.ips}) < len(given.ips):
        raise ValueError("an address twice")
    if "0.2.0" in versions.family(version):
        for v6 in (False, True):
            if sum(each.address.v6 == v6 for each in given.ips) > 1:
                raise ValueError(f"CNI version {version} does not support more than 1 address per family")
    families = {each.address.v6 for each in given.ips}
    for route in given.routes:
        _judge_route(route, subnets, families)
    _judge_dns(given.dns)
    return Result(ips=given.ips, routes=given.routes, dns=given.dns)


def refuse_others(result: Result, requested: Collection[bytes]) -> None:
    """Raise ValueError when an address that was asked for is not among those given."""
    given = {each.address.packed for each in result.ips}
    missing = [format_ip(each) for each in requested if each not in given]
    if missing:
        raise ValueError(f"not the requested {', '.join(missing)}")


def _judge_address(given: IPConfig, subnets: Sequence[Cidr]) -> None:
    address = given.address
    place = next((each for each in subnets if each.contains(address.packed)), None)
    if place is None or address.length < place.length:
        raise ValueError(f"{address} is not in {', '.join(map(str, subnets))}")
    if given.interface is not None:
        raise ValueError(f"{address} has an interface")
    bits = len(address.packed) * 8
    if address.length < bits - 1:
        first = int.from_bytes(address.network.packed, "big")
        offset = int.from_bytes(address.packed, "big") - first
        if offset == 0 or (not address.v6 and offset == (1 << bits - address.length) - 1):
            raise ValueError(f"{address} is the address of a network or of a broadcast")
    if given.gateway is not None:
        if not any(each.contains(given.gateway) for each in subnets):
            raise ValueError(f"gateway {format_ip(given.gateway)} is not in {', '.join(map(str, subnets))}")
        if given.gateway == address.packed or len(given.gateway) != len(address.packed):
            raise ValueError(f"gateway {format_ip(given.gateway)} of {address}")


def _judge_route(route: Route, subnets: Sequence[Cidr], families: Collection[bool]) -> None:
    if route.dst.v6 not in families:
        raise ValueError(f"a route to {route.dst} without an address of its family")
    if route.gw is not None and not any(each.contains(route.gw) for each in subnets):
        raise ValueError(f"a route through {format_ip(route.gw)}")
    if route.table is not None or route.scope is not None:
        raise ValueError(f"the route to {route.dst} has a table or a scope")
    for name in ("mtu", "advmss", "priority"):
        if not 0 <= getattr(route, name) < 1 << 32:
            raise ValueError(f"the route to {route.dst} has {name} {getattr(route, name)}")


def _judge_dns(dns: DNS) -> None:
    for each in dns.nameservers:
        parse_ip(each)
    words = [*dns.nameservers, *dns.search, *dns.options, dns.domain]
    if len(words) > _MOST_WORDS:
        raise ValueError(f"{len(words)} words of dns")
    for each in words:
        if len(each) > _LONGEST_WORD or not each.isascii() or not each.isprintable() or " " in each:
            raise ValueError("dns holds what is no word of resolv.conf")
