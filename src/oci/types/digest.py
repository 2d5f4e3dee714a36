"""Digests: what content is found by and checked against (image-spec, descriptor.md, "Digests")."""

from __future__ import annotations

from appc.jsonfield import quoted, string

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol, Self

    class Hash(Protocol):
        """What hashlib makes."""

        def update(self, data: bytes | memoryview, /) -> None: ...
        def hexdigest(self) -> str: ...


#: Algorithm: hexadecimal digits. Others are registered nowhere and refused: a path is made of a digest.
_LENGTHS = {"sha256": 64, "sha512": 128}
_HEX = "0123456789abcdef"


class Digest(str):
    """Such as ``sha256:`` and 64 lower-case digits; nothing else gets in (CVE-2024-3727)."""

    __slots__ = ()

    def __new__(cls, value: object) -> Self:
        text = string(value)
        algorithm, colon, digits = text.partition(":")
        if not colon or not algorithm:
            raise ValueError(f"{quoted(text)} is not a digest such as sha256:…")
        if algorithm not in _LENGTHS:
            raise ValueError(f"{quoted(text)}: the algorithm {quoted(algorithm)} is not supported")
        if len(digits) != _LENGTHS[algorithm] or digits.strip(_HEX):
            raise ValueError(
                f"{quoted(text)} is not {algorithm}: and {_LENGTHS[algorithm]} lower-case hexadecimal digits"
            )
        return super().__new__(cls, text)

    @classmethod
    def of(cls, data: bytes) -> Self:
        """The SHA-256 of `data`."""
        import hashlib  # 7 ms of a start that only reads names

        return cls("sha256:" + hashlib.sha256(data).hexdigest())

    @property
    def algorithm(self) -> str:
        """``sha256`` or ``sha512``."""
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        """The digits."""
        return self.partition(":")[2]

    def hasher(self) -> Hash:
        """A new hash of the algorithm, to which the content is to be fed."""
        import hashlib

        return hashlib.new(self.algorithm)
