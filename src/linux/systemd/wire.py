"""D-Bus values as bytes and back (D-Bus specification, "Marshaling"), little-endian as all hosts here are.

A type is a signature string. Values are int, float, bool, str, lists for ``a``, tuples for ``()`` and ``{}``,
and for ``v`` a tuple of the signature and the value.
"""

from __future__ import annotations

import struct
from typing import Any

# How each basic type of a fixed size is packed; its size is its alignment.
_FIXED = {"y": "B", "b": "I", "n": "h", "q": "H", "i": "i", "u": "I", "x": "q", "t": "Q", "d": "d"}
_ALIGNMENT = {"s": 4, "o": 4, "a": 4, "(": 8, "{": 8, "g": 1, "v": 1}
_CLOSING = {"(": ")", "{": "}"}
_DEEPEST = 32
# The largest string or array that is read: what is asked for here is far smaller.
LARGEST = 1 << 20


def split(signature: str) -> list[str]:
    """The complete types that a signature is a sequence of. ValueError for one that is not well formed."""
    found = []
    while signature:
        length = _length(signature, 0)
        found.append(signature[:length])
        signature = signature[length:]
    return found


def _length(signature: str, depth: int) -> int:
    """The length of the first complete type in `signature`."""
    kind = signature[:1]
    if depth > _DEEPEST or (kind not in _FIXED and kind not in _ALIGNMENT):
        raise ValueError(f"{signature!r} is not a D-Bus signature")
    if kind == "a":
        return 1 + _length(signature[1:], depth + 1)
    if kind not in _CLOSING:
        return 1
    at = 1
    while signature[at : at + 1] != _CLOSING[kind]:
        at += _length(signature[at:], depth + 1)
    return at + 1


def _alignment(signature: str) -> int:
    kind = signature[0]
    return struct.calcsize("<" + _FIXED[kind]) if kind in _FIXED else _ALIGNMENT[kind]


def encode(signature: str, values: tuple[Any, ...]) -> bytes:
    """`values`, of the types in `signature`, as the body of a message."""
    out = bytearray()
    for kind, value in zip(split(signature), values, strict=True):
        _write(out, kind, value)
    return bytes(out)


def _write(out: bytearray, signature: str, value: Any) -> None:
    kind = signature[0]
    out += bytes(-len(out) % _alignment(signature))
    if kind in _FIXED:
        out += struct.pack("<" + _FIXED[kind], value)
    elif kind in {"s", "o"}:
        data = value.encode()
        out += struct.pack("<I", len(data)) + data + b"\0"
    elif kind == "g":
        data = value.encode()
        out += bytes([len(data)]) + data + b"\0"
    elif kind == "v":
        _write(out, "g", value[0])
        _write(out, *value)
    elif kind == "a":
        _write_array(out, signature[1:], value)
    else:
        for inner, item in zip(split(signature[1:-1]), value, strict=True):
            _write(out, inner, item)


def _write_array(out: bytearray, element: str, items: Any) -> None:
    at = len(out)
    out += bytes(4)
    out += bytes(-len(out) % _alignment(element))  # does not count for the array's length
    start = len(out)
    for item in items:
        _write(out, element, item)
    struct.pack_into("<I", out, at, len(out) - start)


class Reader:
    """Reads values from the bytes of a message. ValueError for bytes that are none."""

    __slots__ = ("_at", "_data", "_order")

    def __init__(self, data: bytes, *, order: str = "<", at: int = 0) -> None:
        self._data = data
        self._order = order
        self._at = at

    def all(self, signature: str) -> tuple[Any, ...]:
        """The values of the types in `signature`."""
        return tuple(self.one(kind) for kind in split(signature))

    def one(self, signature: str, depth: int = 0) -> Any:
        """The next value."""
        if depth > _DEEPEST:
            raise ValueError("the message is nested too deeply")
        kind = signature[0]
        self._at += -self._at % _alignment(signature)
        if kind in _FIXED:
            (value,) = struct.unpack(self._order + _FIXED[kind], self._take(_alignment(signature)))
            return bool(value) if kind == "b" else value
        if kind in {"s", "o"}:
            return self._text(self.one("u"))
        if kind == "g":
            return self._text(self.one("y"))
        if kind == "v":
            inner = self.one("g")
            if len(split(inner)) != 1:
                raise ValueError("a variant that is not one value")
            return inner, self.one(inner, depth + 1)
        if kind == "a":
            return self._array(signature[1:], depth)
        return tuple(self.one(inner, depth + 1) for inner in split(signature[1:-1]))

    def _array(self, element: str, depth: int) -> list[Any]:
        length = self.one("u")
        self._at += -self._at % _alignment(element)
        end = self._at + length
        if length > LARGEST or end > len(self._data):
            raise ValueError("an array is longer than its message")
        items = []
        while self._at < end:
            items.append(self.one(element, depth + 1))
        return items

    def _text(self, length: int) -> str:
        return self._take(length + 1)[:-1].decode("utf-8", "replace")

    def _take(self, length: int) -> bytes:
        data = self._data[self._at : self._at + length]
        if length > LARGEST or len(data) != length:
            raise ValueError("the message ends early")
        self._at += length
        return data
