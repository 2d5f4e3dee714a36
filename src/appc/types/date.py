"""Time stamps: ``date-time`` of RFC 3339, section 5.6, with ``T`` between date and time."""

from __future__ import annotations

from appc.jsonfield import quoted, string

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

_DIGITS = "0123456789"
_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class Date(str):
    """A time stamp as it was written. Leap seconds and lower-case letters are refused."""

    __slots__ = ()

    def __new__(cls, value: object) -> Self:
        text = string(value)
        if not _well_formed(text):
            raise ValueError(f"{quoted(text)} is not a date such as 2014-10-27T19:32:27.67021798Z (RFC 3339)")
        return super().__new__(cls, text)


def _well_formed(text: str) -> bool:
    # 2014-10-27T19:32:27 is 19 characters; then an optional fraction; then Z or an offset
    date, rest = text[:19], text[19:]
    if len(date) != 19 or [date[i] for i in (4, 7, 10, 13, 16)] != ["-", "-", "T", ":", ":"]:
        return False
    parts = date[:4], date[5:7], date[8:10], date[11:13], date[14:16], date[17:19]
    if any(part.strip(_DIGITS) for part in parts):
        return False
    year, month, day, hour, minute, second = map(int, parts)
    if rest.startswith("."):
        zone = rest[1:].lstrip(_DIGITS)
        if len(zone) == len(rest) - 1:
            return False
        rest = zone
    leap = month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return (
        1 <= month <= 12
        and 1 <= day <= _DAYS[month - 1] + leap
        and hour <= 23
        and minute <= 59
        and second <= 59
        and _zone(rest)
    )


def _zone(text: str) -> bool:
    if text == "Z":
        return True
    return (
        len(text) == 6
        and text[0] in "+-"
        and text[3] == ":"
        and not (text[1:3] + text[4:]).strip(_DIGITS)
        and int(text[1:3]) <= 23
        and int(text[4:]) <= 59
    )
