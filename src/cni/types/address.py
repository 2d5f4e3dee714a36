"""IP addresses and prefixes as CNI writes them, kept as packed bytes, which is what the kernel takes."""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton

_V4_MAPPED = bytes(10) + b"\xff\xff"


def parse_ip(text: str) -> bytes:
    """`text` as 4 or 16 bytes; an IPv4-mapped IPv6 address becomes IPv4. ValueError for no address."""
    try:
        packed = inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError):  # ValueError: a NUL or a surrogate in the text
        raise ValueError(f"{text!r} is not an IP address") from None
    return packed[12:] if packed.startswith(_V4_MAPPED) else packed


def format_ip(packed: bytes) -> str:
    """The canonical text (RFC 5952) of 4 or 16 bytes."""
    if len(packed) == 4:
        return inet_ntop(AF_INET, packed)
    text = inet_ntop(AF_INET6, packed)
    if "." not in text:
        return text
    # The C library writes ::/96 as ::1.2.3.4; CNI's other readers and writers use hex only.
    high, low = packed[12] << 8 | packed[13], packed[14] << 8 | packed[15]
    return f"::{high:x}:{low:x}"


def is_loopback(host: str) -> bool:
    """Whether what is sent to `host` stays on this one: 127.0.0.1.example.com is a name like any other."""
    if host == "localhost":
        return True
    try:
        packed = parse_ip(host)
    except ValueError:
        return False
    return packed[0] == 127 if len(packed) == 4 else packed == bytes(15) + b"\x01"


class Cidr:
    """An address with the length of its prefix, such as 10.1.2.3/16. The host part is kept."""

    __slots__ = ("length", "packed")

    def __init__(self, packed: bytes, length: int) -> None:
        if not 0 <= length <= len(packed) * 8:
            raise ValueError(f"{format_ip(packed)}/{length}: no such prefix length")
        self.packed = packed
        self.length = length

    @classmethod
    def parse(cls, text: str) -> Cidr:
        """From ADDRESS/LENGTH; ValueError without a length or with bits outside it."""
        address, slash, digits = text.partition("/")
        if not slash or not (digits.isascii() and digits.isdigit() and len(digits) <= 3):
            raise ValueError(f"{text!r} is not an address with a prefix length")
        if len(digits) > 1 and digits.startswith("0"):
            raise ValueError(f"{text!r}: the prefix length starts with 0")
        packed, length = parse_ip(address), int(digits)
        if ":" in address and len(packed) == 4:
            length -= 96
        return cls(packed, length)

    @property
    def v6(self) -> bool:
        return len(self.packed) == 16

    @property
    def address(self) -> str:
        """The text of the address alone."""
        return format_ip(self.packed)

    @property
    def network(self) -> Cidr:
        """The same prefix with all bits after it zero."""
        bits = len(self.packed) * 8
        mask = (1 << bits) - (1 << bits - self.length)
        number = int.from_bytes(self.packed, "big") & mask
        return Cidr(number.to_bytes(len(self.packed), "big"), self.length)

    @property
    def host(self) -> Cidr:
        """The address as a prefix of one: /32 or /128."""
        return Cidr(self.packed, len(self.packed) * 8)

    def contains(self, packed: bytes) -> bool:
        """Whether the address of 4 or 16 bytes lies in this prefix."""
        return len(packed) == len(self.packed) and Cidr(packed, self.length).network == self.network

    def __str__(self) -> str:
        return f"{format_ip(self.packed)}/{self.length}"

    def __repr__(self) -> str:
        return f"Cidr.parse({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cidr):
            return NotImplemented
        return (self.packed, self.length) == (other.packed, other.length)

    def __hash__(self) -> int:
        return hash((self.packed, self.length))
