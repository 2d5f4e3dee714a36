"""JSON text to values and back, without the `json` package.

A plugin is a process that lives for a few milliseconds: importing `json` (and `re` under it) would
be a third of its life. The scanner and the encoder below are the very ones that `json` uses, written in C.
"""

from __future__ import annotations

from _json import encode_basestring_ascii, make_encoder, make_scanner

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Callable

_WHITE_SPACE = " \t\n\r"
_INFINITY = float("inf")


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if number in (_INFINITY, -_INFINITY):
        raise ValueError(f"{text} is too large a number")
    return number


class _Settings:
    """What `make_scanner` asks its argument for: the same attributes as json.JSONDecoder."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = staticmethod(_finite)
    parse_int = int
    parse_constant = staticmethod(_refuse_constant)
    memo: dict[str, str] = {}  # noqa: RUF012  the scanner in C keeps its own


def loads(data: bytes | str, *, limit: int = 1 << 20) -> object:
    """The value in `data`; ValueError when it is not one JSON value in UTF-8 of at most `limit` bytes.

    Of repeated keys the last one counts, as for the other implementations of CNI. NaN, infinities
    and nesting deeper than the interpreter's stack are refused.
    """
    if len(data) > limit:
        raise ValueError(f"{len(data)} bytes of JSON are more than the {limit} allowed")
    text = data if isinstance(data, str) else data.decode("utf-8")
    scan = make_scanner(_Settings)  # type: ignore[arg-type]  # stubs ask for a JSONDecoder
    try:
        value, end = scan(text, _skip(text, 0))
    except StopIteration as stop:
        raise ValueError(f"no JSON value at character {stop.value}") from None
    except SystemError:
        # The scanner takes its exception from json.decoder, but only if somebody has imported that.
        import json.decoder  # noqa: F401

        return loads(data, limit=limit)
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None
    if _skip(text, end) != len(text):
        raise ValueError(f"unexpected text after the JSON value, at character {end}")
    return value


def dumps(value: object, indent: int | None = None) -> str:
    """`value` as JSON text in ASCII, keys in their order; `indent` spaces a level, None for one line.

    Raises TypeError for what is not JSON, and ValueError for a number that is not.
    """
    if indent is None:
        encode = make_encoder(
            markers=None, default=_refuse, encoder=encode_basestring_ascii, indent=None,
            key_separator=": ", item_separator=", ", sort_keys=False, skipkeys=False, allow_nan=False,
        )  # fmt: skip
        return "".join(encode(value, 0))
    pieces: list[str] = []
    _write(value, pieces.append, indent, "\n")
    return "".join(pieces)


def _refuse(value: object) -> object:
    raise TypeError(f"{type(value).__name__} is not JSON")


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in _WHITE_SPACE:
        position += 1
    return position


def _write(value: object, write: Callable[[str], object], indent: int, newline: str) -> None:
    if value is None or value is True or value is False:
        write("null" if value is None else "true" if value else "false")
    elif isinstance(value, str):
        write(encode_basestring_ascii(value))
    elif isinstance(value, (int, float)):
        write(repr(value))
    elif isinstance(value, (dict, list, tuple)):
        _write_container(value, write, indent, newline)
    else:
        _refuse(value)


def _write_container(
    value: dict[str, object] | list[object] | tuple[object, ...],
    write: Callable[[str], object],
    indent: int,
    newline: str,
) -> None:
    mapping = isinstance(value, dict)
    inner = newline + " " * indent
    write("{" if mapping else "[")
    for position, item in enumerate(value):
        if position:
            write(",")
        write(inner)
        if isinstance(value, dict):
            if not isinstance(item, str):
                raise TypeError(f"a key of type {type(item).__name__} is not JSON")
            write(encode_basestring_ascii(item))
            write(": ")
            _write(value[item], write, indent, inner)
        else:
            _write(item, write, indent, inner)
    if value:
        write(newline)
    write("}" if mapping else "]")
