"""The string forms of the reference tools: ``key=value`` pairs parted by commas.

Volumes, mount points and ports are written so on command lines, and app strings in discovery.
Values may hold anything but a comma.
"""

from __future__ import annotations

from appc.jsonfield import quoted

_UNRESERVED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~"
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")


def pairs(text: str) -> list[tuple[str, str]]:
    """The pairs of ``a=b,c=d``; ValueError for a part without ``=``."""
    found = []
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"malformed string {quoted(text)}: {quoted(part)} has no value")
        found.append((key, value))
    return found


def unique_pairs(text: str) -> dict[str, str]:
    """As `pairs`; ValueError for a key that comes twice."""
    found: dict[str, str] = {}
    for key, value in pairs(text):
        if key in found:
            raise ValueError(f"{key} is given twice: {quoted(found[key])} and {quoted(value)}")
        found[key] = value
    return found


def query_string(text: str) -> str:
    """``a=b,c=d+e`` as the query of a URL, ``a=b&c=d%2Be``: values are escaped, keys are not."""
    return "&".join(f"{key}={escaped(value)}" for key, value in pairs(text))


def escaped(value: str) -> str:
    """`value` for a URL's query: a blank as ``+``, everything unusual as ``%XX`` of its UTF-8 bytes."""
    return "".join(
        character if character in _UNRESERVED else "+" if character == " " else _percent(character)
        for character in value
    )


def boolean(text: str) -> bool:
    """What Go's strconv.ParseBool takes for true or false."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"{quoted(text)} is neither true nor false")


def number(text: str, *, highest: int = 2**32 - 2) -> int:
    """ASCII digits up to `highest`: no sign, no blanks, nothing that wraps around (CVE-2024-40635)."""
    if not text or text.strip("0123456789") or len(text) > 19 or int(text) > highest:
        raise ValueError(f"{quoted(text)} is not a number between 0 and {highest}")
    return int(text)


def _percent(character: str) -> str:
    return "".join(f"%{octet:02X}" for octet in character.encode())
