"""Image IDs: the SHA-512 of an image's uncompressed archive."""

from __future__ import annotations

from appc.jsonfield import quoted, string

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

PREFIX = "sha512-"
#: Characters of a whole ID, and of the short form that the reference shows (``sha512-`` and 32 digits).
LENGTH = len(PREFIX) + 128
SHORT_LENGTH = len(PREFIX) + 32
_HEX = "0123456789abcdefABCDEF"


class ImageID(str):
    """``sha512-`` and 128 hexadecimal digits. The reference accepts any text behind the prefix."""

    __slots__ = ()

    def __new__(cls, value: object) -> Self:
        text = string(value)
        kind, dash, digest = text.partition("-")
        if not dash or not kind:
            raise ValueError(f"{quoted(text)} is not an image ID such as sha512-…")
        if kind != "sha512":
            raise ValueError(f"{quoted(text)}: the hash {quoted(kind)} is unknown (only sha512 is)")
        if len(text) != LENGTH or digest.strip(_HEX):
            raise ValueError(f"{quoted(text)} is not sha512- and 128 hexadecimal digits")
        return super().__new__(cls, text)

    @classmethod
    def from_digest(cls, digest: bytes) -> Self:
        """The ID for the 64 bytes of a SHA-512."""
        return cls(PREFIX + digest.hex())

    @property
    def short(self) -> str:
        """The first 32 digits, as the reference prints IDs."""
        return self[:SHORT_LENGTH]
