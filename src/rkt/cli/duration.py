"""Durations as rkt's flags take them: Go's form, such as `30s`, `1h30m`, `1.5h`, `0`."""

from __future__ import annotations

import re

from rkt.errors import RktError

_UNITS = {"ns": 1e-9, "us": 1e-6, "\u00b5s": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile("([0-9]+(?:[.][0-9]*)?|[.][0-9]+)(ns|us|\u00b5s|ms|s|m|h)", re.ASCII)


def parse_duration(text: str, flag: str) -> float:
    """Seconds; RktError that names `flag` for what Go would refuse, and for less than zero."""
    if text in ("0", "+0"):
        return 0.0
    rest = text.removeprefix("+")
    total = 0.0
    while match := _PART.match(rest):
        total += float(match[1]) * _UNITS[match[2]]
        rest = rest[match.end() :]
    if rest or not text:
        raise RktError(f"{flag}: {text!r} is not a duration", hint="write it as 30s, 10m, 1h30m or 0s")
    return total
