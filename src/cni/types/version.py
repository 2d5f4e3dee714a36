"""Versions of the CNI specification: which are known, which are newer, which share a result format."""

from __future__ import annotations

KNOWN = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
LATEST = KNOWN[-1]
IMPLICIT = "0.1.0"  # of a configuration or a result that does not say
_FAMILIES = (KNOWN[:2], KNOWN[2:5], KNOWN[5:])


def parse(text: str) -> tuple[int, int, int]:
    """`text` as three numbers ("1.1" is 1.1.0, "" is 0.1.0); ValueError for anything else."""
    parts = (text or IMPLICIT).split(".")
    if len(parts) > 3:
        raise ValueError(f"version {text!r} has {len(parts)} parts, three are the most")
    numbers = [0, 0, 0]
    for position, part in enumerate(parts):
        digits = part[1:] if part[:1] in ("+", "-") else part
        if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
            raise ValueError(f"version {text!r}: {part!r} is not a number")
        numbers[position] = int(part)
    return numbers[0], numbers[1], numbers[2]


def at_least(text: str, minimum: str) -> bool:
    """Whether `text` is `minimum` or newer, as numbers; ValueError when one is no version."""
    return parse(text) >= parse(minimum)


def family(text: str) -> tuple[str, ...]:
    """The known versions with the same result format as `text`; ValueError when it is not known."""
    for versions in _FAMILIES:
        if (text or IMPLICIT) in versions:
            return versions
    raise ValueError(f"unsupported CNI result version {text!r}")
