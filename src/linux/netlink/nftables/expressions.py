"""Expressions of rules: load a field, compare it, look it up, translate, give a verdict.

Each function returns encoded expressions to be handed to `objects.add_rule` in order. Loads go to the 32-bit
register `register` (0 to 15), compares read from it; without one both use the first. In a table of family
inet an address is loaded after `is_family`. Source: include/uapi/linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

from linux.netlink import wire
from linux.netlink.nftables import types

DROP, ACCEPT, JUMP, GOTO, RETURN = 0, 1, -3, -4, -5
EQUAL, NOT_EQUAL = 0, 1

_REGISTERS = 8
_NAME, _DATA = 1, 2
_VALUE, _VERDICT = 1, 2
_LINK_HEADER, _NETWORK_HEADER, _TRANSPORT_HEADER = 0, 1, 2
_META_IIFNAME, _META_OIFNAME, _META_NFPROTO, _META_L4PROTO = 6, 7, 15, 16
_CT_STATUS = 2
_FIB_TYPE, _FIB_DESTINATION = 3, 2
_RTN_LOCAL = 2
_DNAT = 1
# NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED
_ADDRESS_AND_PORT = 3
_FULLY_RANDOM = 16
_STATUS_DNAT = 0x20
_AF_INET, _AF_INET6 = 2, 10
# Offsets of the source address in the IPv4 and IPv6 headers; the destination follows it.
_SOURCE_AT = {_AF_INET: 12, _AF_INET6: 8}


def expression(name: str, *attributes: bytes) -> bytes:
    """One expression as a list element: the way to any that has no function here."""
    return wire.nested(1, wire.text(_NAME, name), wire.nested(_DATA, *attributes))


def data(kind: int, raw: bytes) -> bytes:
    """A value, wrapped as the kernel's `nft_data`."""
    return wire.nested(kind, wire.attribute(_VALUE, raw))


def verdict_data(kind: int, code: int, chain: str | None = None) -> bytes:
    """A verdict (DROP, ACCEPT, RETURN, or JUMP and GOTO with their chain), wrapped as `nft_data`."""
    parts = [wire.be32(1, code & 0xFFFFFFFF)]
    if chain is not None:
        parts.append(wire.text(2, chain))
    return wire.nested(kind, wire.nested(_VERDICT, *parts))


def verdict(code: int, chain: str | None = None) -> bytes:
    return expression("immediate", wire.be32(1, 0), verdict_data(2, code, chain))


def compare(raw: bytes, *, register: int = 0, operator: int = EQUAL) -> bytes:
    return expression("cmp", wire.be32(1, _REGISTERS + register), wire.be32(2, operator), data(3, raw))


def masked(mask: bytes, *, register: int = 0) -> bytes:
    """The register's value with `mask` laid over it."""
    at = wire.be32(1, _REGISTERS + register), wire.be32(2, _REGISTERS + register)
    return expression("bitwise", *at, wire.be32(3, len(mask)), data(4, mask), data(5, bytes(len(mask))))


def load_payload(base: int, offset: int, size: int, *, register: int = 0) -> bytes:
    """`size` bytes at `offset` of the link (0), network (1) or transport (2) header."""
    return expression(
        "payload",
        wire.be32(1, _REGISTERS + register),
        wire.be32(2, base),
        wire.be32(3, offset),
        wire.be32(4, size),
    )


def load_meta(key: int, *, register: int = 0) -> bytes:
    return expression("meta", wire.be32(1, _REGISTERS + register), wire.be32(2, key))


def load_l4_protocol(*, register: int = 0) -> bytes:
    return load_meta(_META_L4PROTO, register=register)


def load_destination_port(*, register: int = 0) -> bytes:
    return load_payload(_TRANSPORT_HEADER, 2, 2, register=register)


def load_source(family: int, *, register: int = 0) -> bytes:
    """The source address of a packet of `family` (2 IPv4, 10 IPv6)."""
    size = 4 if family == _AF_INET else 16
    return load_payload(_NETWORK_HEADER, _SOURCE_AT[family], size, register=register)


def load_destination(family: int, *, register: int = 0) -> bytes:
    size = 4 if family == _AF_INET else 16
    return load_payload(_NETWORK_HEADER, _SOURCE_AT[family] + size, size, register=register)


def load_source_mac(*, register: int = 0) -> bytes:
    return load_payload(_LINK_HEADER, 6, 6, register=register)


def load_input_name(*, register: int = 0) -> bytes:
    return load_meta(_META_IIFNAME, register=register)


def is_family(family: int) -> list[bytes]:
    """Goes on for packets of `family` (2 IPv4, 10 IPv6): for tables of family inet."""
    return [load_meta(_META_NFPROTO), compare(bytes([family]))]


def is_protocol(protocol: int) -> list[bytes]:
    return [load_meta(_META_L4PROTO), compare(bytes([protocol]))]


def is_input(name: str, *, negated: bool = False) -> list[bytes]:
    return [load_meta(_META_IIFNAME), compare(types.pack(["ifname"], [name]), operator=int(negated))]


def is_output(name: str, *, negated: bool = False) -> list[bytes]:
    return [load_meta(_META_OIFNAME), compare(types.pack(["ifname"], [name]), operator=int(negated))]


def is_source_in(network: str, *, negated: bool = False) -> list[bytes]:
    family, raw, length = wire.pack_network(network)
    return [load_source(family), *_in_network(raw, length, negated=negated)]


def is_destination_in(network: str, *, negated: bool = False) -> list[bytes]:
    family, raw, length = wire.pack_network(network)
    return [load_destination(family), *_in_network(raw, length, negated=negated)]


def is_to_this_host() -> list[bytes]:
    """Goes on for packets whose destination is an address of this host (``fib daddr type local``)."""
    load = expression(
        "fib", wire.be32(1, _REGISTERS), wire.be32(2, _FIB_TYPE), wire.be32(3, _FIB_DESTINATION)
    )
    return [load, compare(wire.host_u32(_RTN_LOCAL))]


def is_translated_destination() -> list[bytes]:
    """Goes on for packets of connections whose destination was changed (``ct status dnat``)."""
    return [
        expression("ct", wire.be32(1, _REGISTERS), wire.be32(2, _CT_STATUS)),
        masked(wire.host_u32(_STATUS_DNAT)),
        compare(bytes(4), operator=NOT_EQUAL),
    ]


def in_set(name: str, *, register: int = 0, negated: bool = False) -> bytes:
    """Goes on when the key in the registers is in the set `name`."""
    parts = [wire.text(1, name), wire.be32(2, _REGISTERS + register)]
    if negated:
        parts.append(wire.be32(5, 1))
    return expression("lookup", *parts)


def from_map(name: str, *, register: int = 0, target: int = 0) -> bytes:
    """Load the value that the map `name` has for the key; ends the rule when it has none."""
    return expression(
        "lookup", wire.text(1, name), wire.be32(2, _REGISTERS + register), wire.be32(3, _REGISTERS + target)
    )


def verdict_from_map(name: str, *, register: int = 0) -> bytes:
    """Give the verdict that the map `name` has for the key; ends the rule when it has none."""
    return expression("lookup", wire.text(1, name), wire.be32(2, _REGISTERS + register), wire.be32(3, 0))


def dnat(family: int, *, address: int = 0, port: int | None = None) -> bytes:
    """Send the connection to the address, and port, in these registers."""
    parts = [wire.be32(1, _DNAT), wire.be32(2, family)]
    parts += [wire.be32(kind, _REGISTERS + address) for kind in (3, 4)]
    if port is not None:
        parts += [wire.be32(kind, _REGISTERS + port) for kind in (5, 6)]
        parts.append(wire.be32(7, _ADDRESS_AND_PORT))
    return expression("nat", *parts)


def snat(family: int, *, address: int = 0) -> bytes:
    """Give the connection the source address in this register."""
    parts = [wire.be32(1, 0), wire.be32(2, family)]
    return expression("nat", *parts, *[wire.be32(kind, _REGISTERS + address) for kind in (3, 4)])


def masquerade(*, fully_random: bool = False) -> bytes:
    """Give the connection the source address of the interface by which it leaves.

    `fully_random` picks source ports that neither collide under load nor can be guessed.
    """
    return expression("masq", *([wire.be32(1, _FULLY_RANDOM)] if fully_random else []))


def counter() -> bytes:
    return expression("counter")


def _in_network(raw: bytes, length: int, *, negated: bool) -> list[bytes]:
    size = len(raw)
    if length == size * 8:
        return [compare(raw, operator=int(negated))]
    mask = ((1 << length) - 1 << size * 8 - length).to_bytes(size, "big")
    network = bytes(have & keep for have, keep in zip(raw, mask, strict=True))
    return [masked(mask), compare(network, operator=int(negated))]
