"""UUIDs of pods (RFC 4122)."""

from __future__ import annotations

from appc.jsonfield import quoted, string

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

_HEX = "0123456789abcdefABCDEF"


class UUID(str):
    """In the canonical form; read with dashes anywhere and in either case, as the reference does."""

    __slots__ = ()

    def __new__(cls, value: object) -> Self:
        text = string(value)
        digits = text.replace("-", "")
        if len(digits) != 32 or digits.strip(_HEX):
            raise ValueError(f"{quoted(text)} is not a UUID of 32 hexadecimal digits")
        digits = digits.lower()
        groups = digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]
        return super().__new__(cls, "-".join(groups))

    @classmethod
    def from_json(cls, value: object) -> Self:
        """As the constructor; the UUID of zeros, Go's unset value, is refused."""
        uuid = cls(value)
        if not uuid.strip("0-"):
            raise ValueError("the UUID may not be zero")
        return uuid

    @classmethod
    def random(cls) -> Self:
        """A new one, of version 4."""
        from os import urandom

        octets = bytearray(urandom(16))
        octets[6] = octets[6] & 0x0F | 0x40
        octets[8] = octets[8] & 0x3F | 0x80
        return cls(octets.hex())
