"""Types of keys and values in sets and maps, and how their values look in the kernel.

The kernel knows lengths alone; nft(8) keeps the numbers of its types beside each set so that it can print it.
"""

from __future__ import annotations

from linux.netlink import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# Name to nft's number and length in bytes (enum datatypes in nft's include/datatype.h).
_TYPES = {
    "verdict": (0xFFFFFF00, 16),
    "ipv4_addr": (7, 4),
    "ipv6_addr": (8, 16),
    "ether_addr": (9, 6),
    "inet_proto": (12, 1),
    "inet_service": (13, 2),
    "mark": (19, 4),
    "ifname": (41, 16),
}
PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "sctp": 132}
# Of nft's byte orders, the one of numbers that the kernel keeps as the host does.
_HOST_ORDER = 1
_NETWORK_ORDER = 2


def number(fields: Sequence[str]) -> int:
    """nft's number for a concatenation of the types `fields`: six bits each."""
    result = 0
    for field in fields:
        result = result << 6 | _TYPES[field][0]
    return result


def length(fields: Sequence[str]) -> int:
    """Bytes of a key of these types: in a concatenation each field takes whole 32-bit registers."""
    if len(fields) == 1:
        return _TYPES[fields[0]][1]
    return sum(padded(_TYPES[field][1]) for field in fields)


def lengths(fields: Sequence[str]) -> list[int]:
    return [_TYPES[field][1] for field in fields]


def byte_order(fields: Sequence[str]) -> int:
    return _HOST_ORDER if fields[0] in ("mark", "ifname") else _NETWORK_ORDER


def padded(size: int) -> int:
    """`size` in bytes, rounded up to whole registers."""
    return (size + 3) & ~3


def pack(fields: Sequence[str], values: Sequence[str | int]) -> bytes:
    """The bytes of a key or value; ValueError when a value is not of its type.

    Addresses, MACs and interface names are text, protocols text or number, ports and marks numbers.
    """
    if len(fields) != len(values):
        raise ValueError(f"{len(values)} values where {' . '.join(fields)} is wanted")
    raws = [_pack_one(field, value) for field, value in zip(fields, values, strict=True)]
    if len(raws) == 1:
        return raws[0]
    return b"".join(raw + bytes(-len(raw) & 3) for raw in raws)


def unpack(fields: Sequence[str], raw: bytes) -> tuple[str | int, ...]:
    """The inverse of `pack`; protocols come back as numbers."""
    values: list[str | int] = []
    offset = 0
    for field in fields:
        size = _TYPES[field][1]
        values.append(_unpack_one(field, raw[offset : offset + size]))
        offset += padded(size)
    return tuple(values)


def _pack_one(field: str, value: str | int) -> bytes:
    size = _TYPES[field][1]
    if field == "inet_proto" and isinstance(value, str):
        value = PROTOCOLS.get(value, -1)
    if isinstance(value, int):
        if field not in ("inet_proto", "inet_service", "mark") or not 0 <= value < 1 << 8 * size:
            raise ValueError(f"{value} is not of type {field}")
        return wire.host_u32(value) if field == "mark" else value.to_bytes(size, "big")
    if field == "ether_addr":
        return wire.pack_mac(value)
    if field == "ifname":
        raw = value.encode()
        if not 0 < len(raw) < size or b"\0" in raw:
            raise ValueError(f"{value!r} is not of type ifname")
        return raw.ljust(size, b"\0")
    raw = wire.pack_address(value)[1] if field in ("ipv4_addr", "ipv6_addr") else b""
    if len(raw) != size:
        raise ValueError(f"{value!r} is not of type {field}")
    return raw


def _unpack_one(field: str, raw: bytes) -> str | int:
    if field in ("ipv4_addr", "ipv6_addr"):
        return wire.read_address(raw)
    if field == "ether_addr":
        return wire.read_mac(raw)
    if field == "ifname":
        return wire.read_text(raw)
    return wire.read_u32(raw) if field == "mark" else int.from_bytes(raw, "big")
