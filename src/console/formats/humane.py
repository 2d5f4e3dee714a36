"""Times and sizes for people, in the words that rkt's output has always used (go-humanize's)."""

from __future__ import annotations

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_WEEK, _MONTH, _YEAR = 7 * _DAY, 30 * _DAY, 365 * _DAY
# (below this many seconds, text, unit to divide by)
_STEPS = (
    (1, "now", 1),
    (2, "1 second", 1),
    (_MINUTE, "{} seconds", 1),
    (2 * _MINUTE, "1 minute", 1),
    (_HOUR, "{} minutes", _MINUTE),
    (2 * _HOUR, "1 hour", 1),
    (_DAY, "{} hours", _HOUR),
    (2 * _DAY, "1 day", 1),
    (_WEEK, "{} days", _DAY),
    (2 * _WEEK, "1 week", 1),
    (_MONTH, "{} weeks", _WEEK),
    (2 * _MONTH, "1 month", 1),
    (_YEAR, "{} months", _MONTH),
    (18 * _MONTH, "1 year", 1),
    (2 * _YEAR, "2 years", 1),
)


def ago(then: float, now: float | None = None) -> str:
    """`2 minutes ago`, `now`, or `3 hours from now`; both in seconds since 1970."""
    if now is None:
        import time

        now = time.time()
    seconds = int(abs(now - then))
    text = next(
        (text.format(seconds // unit) for limit, text, unit in _STEPS if seconds < limit),
        f"{seconds // _YEAR} years",
    )
    if text == "now":
        return text
    return f"{text} ago" if now >= then else f"{text} from now"


def timestamp(then: float) -> str:
    """Local time in Go's layout `2006-01-02 15:04:05.999 -0700 MST`; `then` is in seconds since 1970.

    As in Go, zeroes at the end of the fraction are cut.
    """
    import time

    milliseconds = round(then * 1000)
    local = time.localtime(milliseconds // 1000)
    fraction = f".{milliseconds % 1000:03}".rstrip("0").rstrip(".")
    return time.strftime("%Y-%m-%d %H:%M:%S", local) + fraction + time.strftime(" %z %Z", local)


def size(count: float) -> str:
    """Bytes in binary units, as `image list` shows them: `913B`, `1.5MiB`, `12MiB`."""
    if count < 10:
        return f"{int(count)}B"
    value = float(count)
    step = 0
    while value >= 1024 and step < len(_UNITS) - 1:
        value /= 1024
        step += 1
    unit = _UNITS[step]
    return f"{value:.0f}{unit}" if value >= 10 or unit == "B" else f"{value:.1f}{unit}"


def duration(seconds: float) -> str:
    """Go's form of a duration, whole seconds: `45s`, `30m0s`, `24h0m0s`."""
    whole = int(seconds)
    hours, minutes = whole // _HOUR, whole % _HOUR // _MINUTE
    text = f"{whole % _MINUTE}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text
