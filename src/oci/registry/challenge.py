"""What a registry says it wants to see: the header WWW-Authenticate (RFC 9110, section 11.6.1)."""

from __future__ import annotations

from linux.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LONGEST = 8192
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


class Challenge(NamedTuple):
    """`scheme` and the names of parameters are in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse(headers: Iterable[str]) -> list[Challenge]:
    """All challenges of all headers. ValueError for one that is malformed."""
    found: list[tuple[str, dict[str, str]]] = []
    for header in headers:
        if len(header) > _LONGEST:
            raise ValueError("a header of more than 8192 characters")
        _Reader(header).read(found)
    return [Challenge(scheme, parameters) for scheme, parameters in found]


class _Reader:
    """One header, read from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def read(self, found: list[tuple[str, dict[str, str]]]) -> None:
        parameters: dict[str, str] = {}
        while self._more():
            word = self._word()
            self._blanks()
            if self._next("="):
                if not found:
                    raise ValueError("a parameter without a scheme")
                self._blanks()
                parameters[word.lower()] = self._value()
            else:
                parameters = {}
                found.append((word.lower(), parameters))

    def _more(self) -> bool:
        while self._at < len(self._text) and self._text[self._at] in " \t,":
            self._at += 1
        return self._at < len(self._text)

    def _blanks(self) -> None:
        while self._at < len(self._text) and self._text[self._at] in " \t":
            self._at += 1

    def _next(self, character: str) -> bool:
        if self._text[self._at : self._at + 1] != character:
            return False
        self._at += 1
        return True

    def _word(self) -> str:
        start = self._at
        while self._at < len(self._text) and self._text[self._at] in _TOKEN:
            self._at += 1
        if self._at == start:
            raise ValueError("a word is missing")
        return self._text[start : self._at]

    def _value(self) -> str:
        if not self._next('"'):
            return self._word()
        value: list[str] = []
        while self._at < len(self._text):
            character = self._text[self._at]
            self._at += 1
            if character == '"':
                return "".join(value)
            if character == "\\":
                character = self._text[self._at : self._at + 1]
                self._at += 1
            value.append(character)
        raise ValueError("a quotation mark is missing")
