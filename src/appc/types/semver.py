"""Versions as in Semantic Versioning 2.0.0, with exact numbers of any size."""

from __future__ import annotations

from appc.jsonfield import quoted, string

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

_DIGITS = "0123456789"
_IDENTIFIER = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-"
_LONGEST = 256


class SemVer(str):
    """A version; compare by `precedence`, since build metadata does not count (semver.org, 10 and 11)."""

    __slots__ = ()

    def __new__(cls, value: object) -> Self:
        text = string(value)
        _split(text)
        return super().__new__(cls, text)

    @classmethod
    def from_json(cls, value: object) -> Self:
        """As the constructor; 0.0.0 is refused, which no specification has and which is Go's unset value."""
        version = cls(value)
        if version == "0.0.0":
            raise ValueError("the version may not be zero")
        return version

    @property
    def numbers(self) -> tuple[int, int, int]:
        """Major, minor and patch."""
        return _split(self)[0]

    @property
    def prerelease(self) -> tuple[str, ...]:
        """The identifiers between ``-`` and ``+``."""
        return _split(self)[1]

    @property
    def precedence(self) -> tuple[object, ...]:
        """A key that sorts versions as semver.org, rule 11, says."""
        numbers, prerelease, _ = _split(self)
        if not prerelease:
            return (*numbers, 1)
        keys = [(0, int(part), "") if not part.strip(_DIGITS) else (1, 0, part) for part in prerelease]
        return (*numbers, 0, *keys)


def _split(text: str) -> tuple[tuple[int, int, int], tuple[str, ...], tuple[str, ...]]:
    if len(text) > _LONGEST:
        raise ValueError(f"{quoted(text)} is longer than a version may be ({_LONGEST} characters)")
    rest, plus, metadata = text.partition("+")
    core, dash, prerelease = rest.partition("-")
    numbers = core.split(".")
    before = prerelease.split(".") if dash else []
    behind = metadata.split(".") if plus else []
    if (
        len(numbers) != 3
        or not all(_numeric(part) for part in numbers)
        or not all(part and not part.strip(_IDENTIFIER) for part in before + behind)
        or not all(_numeric(part) for part in before if not part.strip(_DIGITS))
    ):
        raise ValueError(f"{quoted(text)} is not a semantic version")
    major, minor, patch = (int(part) for part in numbers)
    return (major, minor, patch), tuple(before), tuple(behind)


def _numeric(part: str) -> bool:
    return bool(part) and not part.strip(_DIGITS) and (part == "0" or part[0] != "0")
