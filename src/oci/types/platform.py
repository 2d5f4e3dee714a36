"""Platforms: which of the images of an index is for a machine (image-spec, image-index.md)."""

from __future__ import annotations

from appc.jsonfield import Fields, quoted, string
from linux.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeVar

    T = TypeVar("T")

#: Spellings that index writers have used, and Go's.
_ARCHITECTURES = {"x86_64": "amd64", "x86-64": "amd64", "i386": "386", "aarch64": "arm64", "armhf": "arm"}
_ALIAS_VARIANTS = {"armhf": "v7", "armel": "v6"}
#: The variant that is meant where none is given.
_DEFAULT_VARIANTS = {"arm": "v7", "arm64": "v8", "amd64": "v1"}


class Platform(NamedTuple):
    """Names are Go's: linux, amd64, 386, arm64, arm with a variant such as v7."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """``linux/arm/v7``, ``linux/amd64`` or ``arm64`` alone. ValueError."""
        parts = text.split("/")
        if len(parts) == 1:
            parts.insert(0, "linux")
        if len(parts) > 3 or not all(part and part.isascii() and part.isprintable() for part in parts):
            raise ValueError(f"{quoted(text)} is not a platform such as linux/amd64")
        return cls(*parts).canonical

    @classmethod
    def from_json(cls, value: object) -> Platform:
        """The member ``platform`` of a descriptor, or an image's configuration."""
        fields = Fields(value)
        found = cls(
            fields.optional("os", string, ""),
            fields.optional("architecture", string, ""),
            fields.optional("variant", string, ""),
        )
        fields.finish()
        return found

    @classmethod
    def of_host(cls) -> Platform:
        """That of the running kernel. UnsupportedPlatform where it has no name."""
        from appc.types import platforms

        os, architecture, arm = platforms.to_go(*platforms.of_host())
        return cls(os, architecture, f"v{arm}" if arm else "").canonical

    @property
    def canonical(self) -> Platform:
        """The same with Go's names, and the variant that is meant where none is given."""
        architecture = self.architecture.lower()
        variant = self.variant.lower() or _ALIAS_VARIANTS.get(architecture, "")
        architecture = _ARCHITECTURES.get(architecture, "arm" if architecture == "armel" else architecture)
        variant = variant if not variant.isdigit() else f"v{variant}"
        return Platform(self.os.lower(), architecture, variant or _DEFAULT_VARIANTS.get(architecture, ""))

    def to_json(self) -> dict[str, object]:
        """The JSON form; a variant only where there is one that is not meant anyway."""
        value: dict[str, object] = {"architecture": self.architecture, "os": self.os}
        if self.architecture == "arm" or self.variant not in {"", _DEFAULT_VARIANTS.get(self.architecture)}:
            value["variant"] = self.variant
        return value

    def __str__(self) -> str:
        return "/".join(part for part in self if part)


def best(wanted: Platform, offered: Iterable[tuple[Platform, T]]) -> T | None:
    """Of `offered`, what fits `wanted` best: its own variant, else the highest that it also runs; None.

    An ARM core runs what is for older ones, an amd64 of level 3 what is for level 2 and 1; nothing runs what
    is for a higher one. Of equal ones the first is taken, as the specification says.
    """
    wanted = wanted.canonical
    found: T | None = None
    level = -1
    for platform, value in offered:
        one = platform.canonical
        if (one.os, one.architecture) != (wanted.os, wanted.architecture):
            continue
        number = _level(one.variant)
        if one.variant == wanted.variant:
            return value
        if -1 < number <= _level(wanted.variant) and number > level:
            found, level = value, number
    return found


def _level(variant: str) -> int:
    """The number in ``v7``; 0 where there is no variant, -1 for one that cannot be compared."""
    if not variant:
        return 0
    digits = variant.removeprefix("v")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 4 else -1
