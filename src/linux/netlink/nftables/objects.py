"""Requests for tables, chains, rules, sets, maps and elements: what a `transaction.Transaction` is made of.

Adding a table, chain or set that is there already succeeds (and, for a base chain, waits for every processor
to leave the old one: not for the hot path). Rules are always added; an element that is there is EEXIST.
"""

from __future__ import annotations

from struct import Struct

from linux.netlink import wire
from linux.netlink.nftables import expressions, types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

INET, IPV4, BRIDGE, IPV6 = 1, 2, 7, 10
PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING = 0, 1, 2, 3, 4
# Priorities of base chains by nft's names.
RAW, MANGLE, DSTNAT, FILTER, SRCNAT = -300, -150, -100, 0, 100
MESSAGE = Struct("!BBH")

_SUBSYSTEM = 10 << 8
NEW_TABLE, GET_TABLE, DELETE_TABLE = _SUBSYSTEM | 0, _SUBSYSTEM | 1, _SUBSYSTEM | 2
NEW_CHAIN, GET_CHAIN, DELETE_CHAIN = _SUBSYSTEM | 3, _SUBSYSTEM | 4, _SUBSYSTEM | 5
NEW_RULE, GET_RULE, DELETE_RULE = _SUBSYSTEM | 6, _SUBSYSTEM | 7, _SUBSYSTEM | 8
NEW_SET = _SUBSYSTEM | 9
NEW_ELEMENT, GET_ELEMENT, DELETE_ELEMENT = _SUBSYSTEM | 12, _SUBSYSTEM | 13, _SUBSYSTEM | 14
GET_GENERATION = _SUBSYSTEM | 16

_SET_MAP = 0x08
# With the final NUL: nft's own limit; the kernel's is on all user data, 256 bytes.
_COMMENT_LONGEST = 128
_ELEMENTS_IN_MESSAGE = 48 << 10


class Set:
    """A set, or with `values` a map, by its place and the types of its keys and values.

    Types are names such as "ipv4_addr"; several are a concatenation. `values` ("verdict",) is a verdict map.
    """

    __slots__ = ("family", "keys", "name", "table", "values")

    def __init__(
        self, family: int, table: str, name: str, keys: tuple[str, ...], values: tuple[str, ...] = ()
    ) -> None:
        self.family = family
        self.table = table
        self.name = name
        self.keys = keys
        self.values = values


class Element:
    """One element: its key, its value in a map ((code,) or (code, chain) in a verdict map), a comment."""

    __slots__ = ("comment", "key", "value")

    def __init__(self, key: Sequence[str | int], value: Sequence[str | int] = (), comment: str = "") -> None:
        self.key = tuple(key)
        self.value = tuple(value)
        self.comment = comment

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Element):
            return NotImplemented
        return (self.key, self.value, self.comment) == (other.key, other.value, other.comment)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Element({self.key!r}, {self.value!r}, {self.comment!r})"


def add_table(family: int, table: str) -> wire.Request:
    return _request(NEW_TABLE, wire.CREATE, family, f"add table {table}", wire.text(1, table))


def delete_table(family: int, table: str) -> wire.Request:
    """Delete a table with everything in it; ENOENT when it is not there."""
    return _request(DELETE_TABLE, 0, family, f"delete table {table}", wire.text(1, table))


def add_chain(family: int, table: str, chain: str) -> wire.Request:
    """A chain that is only jumped to."""
    return _request(
        NEW_CHAIN, wire.CREATE, family, f"add chain {table} {chain}", wire.text(1, table), wire.text(3, chain)
    )


def add_base_chain(
    family: int, table: str, chain: str, *, kind: str, hook: int, priority: int, accept: bool = True
) -> wire.Request:
    """A chain that packets enter at `hook`, of `kind` "filter", "nat" or "route"; its policy."""
    return _request(
        NEW_CHAIN,
        wire.CREATE,
        family,
        f"add chain {table} {chain}",
        wire.text(1, table),
        wire.text(3, chain),
        wire.nested(4, wire.be32(1, hook), wire.be32(2, priority & 0xFFFFFFFF)),
        wire.be32(5, int(accept)),
        wire.text(7, kind),
    )


def flush_chain(family: int, table: str, chain: str) -> wire.Request:
    """Delete the rules of a chain."""
    parts = wire.text(1, table), wire.text(2, chain)
    return _request(DELETE_RULE, 0, family, f"flush chain {table} {chain}", *parts)


def delete_chain(family: int, table: str, chain: str) -> wire.Request:
    """Delete a chain without rules; EBUSY while something jumps to it."""
    return _request(
        DELETE_CHAIN, 0, family, f"delete chain {table} {chain}", wire.text(1, table), wire.text(3, chain)
    )


def add_rule(family: int, table: str, chain: str, *rule: bytes, comment: str = "") -> wire.Request:
    """Append a rule of `expressions` to a chain."""
    parts = [wire.text(1, table), wire.text(2, chain), wire.nested(4, *rule)]
    if comment:
        parts.append(wire.attribute(7, pack_comment(comment)))
    return _request(NEW_RULE, wire.CREATE | wire.APPEND, family, f"add rule to {table} {chain}", *parts)


def delete_rule(family: int, table: str, chain: str, handle: int) -> wire.Request:
    """Delete the rule with the number `handle`; ENOENT when there is none."""
    parts = wire.text(1, table), wire.text(2, chain), wire.be64(3, handle)
    return _request(DELETE_RULE, 0, family, f"delete rule {handle} of {table} {chain}", *parts)


def add_set(target: Set) -> wire.Request:
    """A set or map with exact keys."""
    parts = [
        wire.text(1, target.table),
        wire.text(2, target.name),
        wire.be32(3, _SET_MAP if target.values else 0),
        wire.be32(4, types.number(target.keys)),
        wire.be32(5, types.length(target.keys)),
    ]
    if target.values:
        parts += [wire.be32(6, types.number(target.values)), wire.be32(7, types.length(target.values))]
    # The kernel tells sets of one transaction apart by this number; their names are unique all the same.
    parts.append(wire.be32(10, 1))
    notes = _note(0, types.byte_order(target.keys))
    if target.values:
        notes += _note(1, types.byte_order(target.values) if target.values != ("verdict",) else 0)
    parts.append(wire.attribute(13, notes))
    return _request(NEW_SET, wire.CREATE, target.family, f"add set {target.table} {target.name}", *parts)


def add_elements(target: Set, elements: Sequence[Element]) -> list[wire.Request]:
    """Add elements, as many to a request as fit; EEXIST when one of the keys is there, whatever its value."""
    encoded = [encode_element(target, element) for element in elements]
    what = f"add {_summary(elements)} to {target.table} {target.name}"
    return _elements(NEW_ELEMENT, wire.CREATE | wire.EXCLUSIVE, target, encoded, what)


def delete_elements(target: Set, elements: Sequence[Element]) -> list[wire.Request]:
    """Delete the elements with these keys; ENOENT when one of them is not there."""
    encoded = [wire.nested(1, expressions.data(1, types.pack(target.keys, each.key))) for each in elements]
    what = f"delete {_summary(elements)} from {target.table} {target.name}"
    return _elements(DELETE_ELEMENT, 0, target, encoded, what)


def encode_element(target: Set, element: Element) -> bytes:
    parts = [expressions.data(1, types.pack(target.keys, element.key))]
    if target.values == ("verdict",):
        code, *chain = element.value
        parts.append(expressions.verdict_data(2, int(code), str(chain[0]) if chain else None))
    elif target.values:
        parts.append(expressions.data(2, types.pack(target.values, element.value)))
    if element.comment:
        parts.append(wire.attribute(6, pack_comment(element.comment)))
    return wire.nested(1, *parts)


def pack_comment(comment: str) -> bytes:
    """User data with a comment that nft(8) prints; ValueError when it is longer than 127 bytes."""
    raw = comment.encode() + b"\0"
    if len(raw) > _COMMENT_LONGEST or b"\0" in raw[:-1]:
        raise ValueError(f"nftables: the comment {comment!r} is too long or holds a NUL")
    return bytes([0, len(raw)]) + raw


def read_comment(raw: bytes) -> str:
    """The comment in user data, or ""."""
    offset = 0
    while offset + 2 <= len(raw):
        kind, size = raw[offset], raw[offset + 1]
        if kind == 0:
            return wire.read_text(raw[offset + 2 : offset + 2 + size])
        offset += 2 + size
    return ""


def query(kind: int, family: int, what: str, *parts: bytes) -> wire.Request:
    """A question, for `Socket.request` or `Socket.dump`; not for a transaction."""
    return _request(kind, 0, family, what, *parts)


def _request(kind: int, flags: int, family: int, what: str, *parts: bytes) -> wire.Request:
    return wire.Request(kind, flags, MESSAGE.pack(family, 0, 0) + b"".join(parts), what)


def _elements(kind: int, flags: int, target: Set, encoded: list[bytes], what: str) -> list[wire.Request]:
    requests: list[wire.Request] = []
    head = wire.text(1, target.table) + wire.text(2, target.name)
    start = 0
    while start < len(encoded):
        end, size = start, 0
        while end < len(encoded) and size < _ELEMENTS_IN_MESSAGE:
            size += len(encoded[end])
            end += 1
        body = head + wire.nested(3, *encoded[start:end])
        requests.append(_request(kind, flags, target.family, what, body))
        start = end
    return requests


def _summary(elements: Sequence[Element]) -> str:
    if len(elements) == 1:
        return "element " + " . ".join(str(part) for part in elements[0].key)
    return f"{len(elements)} elements"


def _note(kind: int, value: int) -> bytes:
    # libnftnl's user data: type, length, value; kind 0 and 1 are the byte orders of key and value.
    return bytes([kind, 4]) + wire.host_u32(value)
