"""How long an answer may be used again without asking: Cache-Control (RFC 9111)."""

from __future__ import annotations

import re

# More than 68 years is "for ever" (RFC 9111, section 1.2.2), and what SQLite and C keep without harm.
_LONGEST = 2**31 - 1


def max_age(cache_control: str | None) -> int:
    """Seconds for which the answer is fresh: 0 for no-store, no-cache, an unreadable or a missing header."""
    age = 0
    for part in (cache_control or "").split(","):
        name, _, value = part.strip().partition("=")
        match name.strip().lower():
            case "no-store" | "no-cache":
                return 0
            case "max-age":
                value = value.strip().strip('"')
                if not re.fullmatch(r"[0-9]{1,20}", value):
                    return 0
                age = min(int(value), _LONGEST)
            case _:
                continue
    return age


def is_fresh(downloaded: float, seconds: int, now: float) -> bool:
    """Whether what was downloaded at the Unix time `downloaded` is still good for `seconds`.

    A download from the future (a clock set back) is not fresh: asking again is the safe side.
    """
    return 0 <= now - downloaded < seconds
