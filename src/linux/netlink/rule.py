"""Policy routing rules: add, delete, list (ip-rule(8), include/uapi/linux/fib_rules.h)."""

from __future__ import annotations

from struct import Struct

from linux.netlink import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from linux.netlink.socket import Socket

_NEW, _DELETE, _GET = 32, 33, 34
_HEADER = Struct("=BBBBBBBBI")
_DST, _SRC, _IIFNAME, _PRIORITY, _FWMARK, _TABLE, _FWMASK, _OIFNAME = 1, 2, 3, 6, 10, 15, 16, 17
_TO_TABLE = 1


class Rule:
    """One rule. `source` and `destination` are "" for any; `mark` and its `mask` are 0 when it tests none."""

    __slots__ = ("destination", "family", "input", "mark", "mask", "output", "priority", "source", "table")

    def __init__(self, body: bytes) -> None:
        self.family, destination_length, source_length, _, table, *_ = _HEADER.unpack_from(body)
        found = wire.parse(body, _HEADER.size)
        self.source = _network(found.get(_SRC), source_length)
        self.destination = _network(found.get(_DST), destination_length)
        self.priority = _number(found, _PRIORITY)
        self.table = _number(found, _TABLE) or table
        self.mark = _number(found, _FWMARK)
        self.mask = _number(found, _FWMASK)
        self.input = wire.read_text(found.get(_IIFNAME, b""))
        self.output = wire.read_text(found.get(_OIFNAME, b""))


def add(
    table: int,
    *,
    source: str | None = None,
    destination: str | None = None,
    priority: int | None = None,
    mark: int | None = None,
    mask: int | None = None,
    family: int = 2,
) -> wire.Request:
    """Look in `table` for packets from `source` to `destination` (networks or addresses) with `mark`.

    `family` counts only when neither network is given. Without `priority` the kernel takes the next one below
    the lowest. EEXIST for the same rule twice.
    """
    body = _body(table, source, destination, priority, mark, mask, family)
    return wire.Request(_NEW, wire.CREATE | wire.EXCLUSIVE, body, f"add rule for table {table}")


def delete(
    table: int,
    *,
    source: str | None = None,
    destination: str | None = None,
    priority: int | None = None,
    mark: int | None = None,
    mask: int | None = None,
    family: int = 2,
) -> wire.Request:
    """Delete the first rule that has all that is given; ENOENT when there is none."""
    body = _body(table, source, destination, priority, mark, mask, family)
    return wire.Request(_DELETE, 0, body, f"delete rule for table {table}")


def rules(socket: Socket, *, family: int) -> list[Rule]:
    """All rules of one family (2 IPv4, 10 IPv6), by priority."""
    body = _HEADER.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
    return [Rule(message.body) for message in socket.dump(wire.Request(_GET, 0, body, "list rules"))]


def _body(
    table: int,
    source: str | None,
    destination: str | None,
    priority: int | None,
    mark: int | None,
    mask: int | None,
    family: int,
) -> bytes:
    lengths = {_SRC: 0, _DST: 0}
    parts = [wire.u32(_TABLE, table)]
    for kind, network in ((_SRC, source), (_DST, destination)):
        if network is not None:
            family, raw, lengths[kind] = wire.pack_network(network)
            parts.append(wire.attribute(kind, raw))
    for kind, number in ((_PRIORITY, priority), (_FWMARK, mark), (_FWMASK, mask)):
        if number is not None:
            parts.append(wire.u32(kind, number))
    small = table if table < 256 else 0
    header = _HEADER.pack(family, lengths[_DST], lengths[_SRC], 0, small, 0, 0, _TO_TABLE, 0)
    return header + b"".join(parts)


def _network(raw: bytes | None, length: int) -> str:
    return "" if raw is None else f"{wire.read_address(raw)}/{length}"


def _number(found: dict[int, bytes], kind: int) -> int:
    return wire.read_u32(found[kind]) if kind in found else 0
