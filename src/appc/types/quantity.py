"""Quantities such as ``1G``, ``512Mi``, ``500m`` and ``1e3`` (spec/ace.md, isolators): exact, of any size.

A sign, decimal digits, and one of the suffixes ``n u m k M G T P E``, ``Ki Mi Gi Ti Pi Ei`` or ``e`` with an
exponent. Kept as a whole number of 10^-9 units; smaller parts are rounded away from zero, so that a limit
never becomes none. The reference keeps 64 bits and wraps around from 2^63 on (1E is 0 in thousandths there).
"""

from __future__ import annotations

from appc.jsonfield import Number, quoted

DECIMAL = "DecimalSI"
BINARY = "BinarySI"
EXPONENT = "DecimalExponent"

#: What one unit is made of.
NANO = 10**9
_DIGITS = "0123456789"
_DECIMAL_SUFFIXES = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY_SUFFIXES = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
#: Bounds on what a hostile text can make us compute.
_LONGEST = 256
_HIGHEST_EXPONENT = 4096
#: Binary quantities are capped here, as by the reference.
_BINARY_LIMIT = 2**63 - 1


class Quantity:
    """An exact number with the kind of suffix in which it is written. Equal when the numbers are."""

    __slots__ = ("format", "nanos")

    def __init__(self, nanos: int, format: str = DECIMAL) -> None:
        self.nanos = nanos
        self.format = format

    @classmethod
    def parse(cls, text: str) -> Quantity:
        """The quantity that `text` stands for; no blanks are allowed."""
        if len(text) > _LONGEST:
            raise ValueError(f"{quoted(text)} is longer than a quantity may be ({_LONGEST} characters)")
        body = text[1:] if text[:1] in {"+", "-"} else text
        whole = body[: len(body) - len(body.lstrip(_DIGITS))]
        rest = body[len(whole) :]
        fraction = ""
        if rest.startswith("."):
            suffix = rest[1:].lstrip(_DIGITS)
            fraction = rest[1 : len(rest) - len(suffix)]
            rest = suffix
        if not whole and not fraction:
            raise ValueError(f"{quoted(text)} is not a quantity such as 500m, 2 or 1.5Gi")
        digits, places = int(whole + fraction), len(fraction)
        if rest in _BINARY_SUFFIXES:
            nanos = _scaled(digits * 1024 ** _BINARY_SUFFIXES[rest], 9 - places)
            nanos = min(nanos, _BINARY_LIMIT * NANO)
            # a binary suffix below one unit is shown in decimals
            form = BINARY if nanos >= NANO or nanos == 0 else DECIMAL
        elif rest in _DECIMAL_SUFFIXES:
            nanos, form = _scaled(digits, 9 - places + _DECIMAL_SUFFIXES[rest]), DECIMAL
        else:
            nanos, form = _scaled(digits, 9 - places + _exponent(text, rest)), EXPONENT
        return cls(-nanos if text[:1] == "-" else nanos, form)

    @classmethod
    def from_json(cls, value: object) -> Quantity:
        """From a string, around which blanks are allowed, or from a number."""
        if isinstance(value, str):
            return cls.parse(value.strip(" \t\n\r"))
        if isinstance(value, int | float) and not isinstance(value, bool):
            return cls.parse(value.text if isinstance(value, Number) else repr(value))
        raise ValueError(f"{quoted(value)} is not a quantity such as 500m, 2 or 1.5Gi")

    def value(self) -> int:
        """Whole units, rounded away from zero."""
        return self.rounded(0)

    def milli_value(self) -> int:
        """Whole thousandths, rounded away from zero."""
        return self.rounded(-3)

    def rounded(self, scale: int) -> int:
        """How many times 10^`scale` this is, rounded away from zero; `scale` is at least -9."""
        unit: int = 10 ** (scale + 9)
        count = -(-abs(self.nanos) // unit)
        return count if self.nanos >= 0 else -count

    def to_json(self) -> str:
        """The canonical text."""
        return str(self)

    def __str__(self) -> str:
        """The largest suffix of the own kind that leaves a whole number; binary needs at least 1024."""
        if self.nanos == 0:
            return "0"
        units, parts = divmod(abs(self.nanos), NANO)
        sign = "-" if self.nanos < 0 else ""
        if self.format == BINARY and units >= 1024 and not parts:
            exponent = 0
            while units % 1024 == 0 and exponent < 6:
                units, exponent = units // 1024, exponent + 1
            return f"{sign}{units}{('', *_BINARY_SUFFIXES)[exponent]}"
        number, exponent = abs(self.nanos), -9
        while number % 1000 == 0 and (exponent < 18 or self.format == EXPONENT):
            number, exponent = number // 1000, exponent + 3
        if self.format == EXPONENT:
            return f"{sign}{number}e{exponent}" if exponent else f"{sign}{number}"
        suffix = next(suffix for suffix, power in _DECIMAL_SUFFIXES.items() if power == exponent)
        return f"{sign}{number}{suffix}"

    def __repr__(self) -> str:
        return f"Quantity.parse({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return self.nanos == other.nanos if isinstance(other, Quantity) else NotImplemented

    def __lt__(self, other: Quantity) -> bool:
        return self.nanos < other.nanos

    def __le__(self, other: Quantity) -> bool:
        return self.nanos <= other.nanos

    def __hash__(self) -> int:
        return hash(self.nanos)


def _exponent(text: str, suffix: str) -> int:
    digits = suffix[2:] if suffix[1:2] in {"+", "-"} else suffix[1:]
    if suffix[:1] not in {"e", "E"} or not digits or digits.strip(_DIGITS):
        raise ValueError(f"{quoted(text)} is not a quantity: the suffix {quoted(suffix)} is unknown")
    if len(digits.lstrip("0")) > 4 or int(digits) > _HIGHEST_EXPONENT:
        raise ValueError(f"{quoted(text)}: exponents above {_HIGHEST_EXPONENT} are not supported")
    return -int(digits) if suffix[1:2] == "-" else int(digits)


def _scaled(digits: int, power: int) -> int:
    """`digits` times 10^`power`, rounded up."""
    if power >= 0:
        return digits * int(10**power)
    return -(-digits // int(10**-power))
