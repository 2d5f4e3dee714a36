"""The addresses a network may give out: ranges, sets of ranges, and the order in which they are tried.

A set gives one address to each attachment; a network with an IPv4 and an IPv6 set gives two.
Addresses are numbers here, of the family of their subnet.
"""

from __future__ import annotations

from itertools import pairwise

from cni.types.address import Cidr, format_ip, parse_ip
from cni.types.result import Value

TYPE_CHECKING = False  # not from typing: start-up time counts here
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final

    from cni.fields import Fields


class Range(Value):
    """From `start` to `end`, both included, of `subnet`; the `gateway` is not given out."""

    __slots__ = ("end", "gateway", "start", "subnet")

    def __init__(self, subnet: Cidr, start: int, end: int, gateway: bytes) -> None:
        self.subnet: Final = subnet
        self.start: Final = start
        self.end: Final = end
        self.gateway: Final = gateway

    @classmethod
    def from_json(cls, fields: Fields) -> Range:
        """From {subnet, rangeStart?, rangeEnd?, gateway?}; ValueError for what makes no range."""
        subnet = Cidr.parse(fields.string("subnet"))
        bits = len(subnet.packed) * 8
        if subnet.length > bits - 2:
            raise ValueError(f"network {subnet} is too small to allocate from")
        if subnet.network != subnet:
            raise ValueError(
                f"network {subnet} has host bits set: of that length it would be {subnet.network}"
            )
        first = int.from_bytes(subnet.packed, "big")
        last = first + (1 << bits - subnet.length) - 1
        start = _inside(fields, "rangeStart", subnet, default=first + 1)
        end = _inside(fields, "rangeEnd", subnet, default=last if subnet.v6 else last - 1)
        if start > end:
            raise ValueError(f"{fields.path('rangeStart')} is after the end of the range")
        gateway = fields.string("gateway")
        return cls(
            subnet,
            start,
            end,
            parse_ip(gateway) if gateway else (first + 1).to_bytes(len(subnet.packed), "big"),
        )

    @property
    def v6(self) -> bool:
        return self.subnet.v6

    def packed(self, number: int) -> bytes:
        return number.to_bytes(len(self.subnet.packed), "big")

    def holds(self, packed: bytes) -> bool:
        """Whether an address is one of the range's, the gateway included."""
        return (
            len(packed) == len(self.subnet.packed) and self.start <= int.from_bytes(packed, "big") <= self.end
        )

    def is_host(self, packed: bytes) -> bool:
        """Whether an address is one of a host in the subnet, be it outside of the range."""
        bits = len(self.subnet.packed) * 8 - self.subnet.length
        number = int.from_bytes(packed, "big") & (1 << bits) - 1
        return self.subnet.contains(packed) and number > 0 and (self.v6 or number < (1 << bits) - 1)

    def overlaps(self, other: Range) -> bool:
        return self.v6 == other.v6 and self.start <= other.end and other.start <= self.end

    def __str__(self) -> str:
        return f"{format_ip(self.packed(self.start))}-{format_ip(self.packed(self.end))}"


class RangeSet:
    """Ranges of one family, of which an attachment gets one address."""

    __slots__ = ("ranges",)

    def __init__(self, ranges: Sequence[Range]) -> None:
        self.ranges: Final = tuple(ranges)
        if not self.ranges:
            raise ValueError("a range set is empty")
        if len({each.v6 for each in self.ranges}) > 1:
            raise ValueError(f"range set {self} mixes IPv4 and IPv6")
        _refuse_overlaps(self.ranges)

    @property
    def v6(self) -> bool:
        return self.ranges[0].v6

    def range_of(self, packed: bytes) -> Range | None:
        """The range that holds the address."""
        return next((each for each in self.ranges if each.holds(packed)), None)

    def near(self, packed: bytes) -> Range | None:
        """A range in whose subnet the address can be a host's, if it is in none of the ranges."""
        return next((each for each in self.ranges if each.is_host(packed)), None)

    def size(self) -> int:
        """How many addresses can be given out."""
        return sum(each.end - each.start + 1 - (1 if each.holds(each.gateway) else 0) for each in self.ranges)

    def after(self, last: bytes | None) -> Iterator[tuple[Range, bytes]]:
        """Every address of the set once, gateways left out, beginning with the one after `last`.

        None, or an address that is not in the set, begins at the start.
        """
        begin = 0
        number: int | None = None
        for position, each in enumerate(self.ranges):
            if last is not None and each.holds(last):
                begin, number = position, int.from_bytes(last, "big")
        turns = [*self.ranges[begin:], *self.ranges[:begin]]
        for position, each in enumerate(turns):
            low = number + 1 if position == 0 and number is not None else each.start
            yield from _addresses(each, low, each.end)
        if number is not None:
            yield from _addresses(turns[0], turns[0].start, number)

    def __str__(self) -> str:
        return ",".join(str(each) for each in self.ranges)


def read_sets(ipam: Fields, runtime_config: Fields) -> tuple[RangeSet, ...]:
    """The sets of a host-local configuration: the runtime's, the single old-style range, then `ranges`.

    Raises ValueError without any, and when two overlap.
    """
    sets = []
    for given, key in ((runtime_config, "ipRanges"), (ipam, ""), (ipam, "ranges")):
        if not key:
            if ipam.get("subnet") is not None:
                sets.append(RangeSet([Range.from_json(ipam)]))
            continue
        sets += [
            RangeSet([Range.from_json(item) for item in given.nested_mappings(key, position)])
            for position in range(len(given.array(key)))
        ]
    if not sets:
        raise ValueError("no IP ranges specified")
    _refuse_overlaps([each for one in sets for each in one.ranges])
    return tuple(sets)


def _addresses(given: Range, low: int, high: int) -> Iterator[tuple[Range, bytes]]:
    for number in range(low, high + 1):
        packed = given.packed(number)
        if packed != given.gateway:
            yield given, packed


def _inside(fields: Fields, key: str, subnet: Cidr, *, default: int) -> int:
    text = fields.string(key)
    if not text:
        return default
    packed = parse_ip(text)
    if not subnet.contains(packed):
        raise ValueError(f"{fields.path(key)}: {text} is not in network {subnet}")
    return int.from_bytes(packed, "big")


def _refuse_overlaps(ranges: Sequence[Range]) -> None:
    ordered = sorted(ranges, key=lambda each: (each.v6, each.start))
    for left, right in pairwise(ordered):
        if left.overlaps(right):
            raise ValueError(f"range {left} overlaps {right}")
