"""Strict JSON: bytes from outside become typed values, or every reason why they cannot.

`parse` reads the text (RFC 8259) and refuses what two readers may understand differently or what exists
only to exhaust a reader: duplicate member names, NaN, NUL, lone surrogates, deep nesting, huge numbers, a
byte order mark, data behind the value. `Fields` then takes an object apart and collects every problem
together with its path, so that one run shows all of them.

Member names are matched without regard to ASCII case, because Go's decoder, which the reference tools use,
does so, and images were written that way; two members that differ in case only are refused.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, NoReturn, Self, TypeVar

    T = TypeVar("T")
    D = TypeVar("D")

    make_scanner: Callable[[object], Callable[[str, int], tuple[Any, int]]] | None
    make_encoder: Callable[..., Callable[[object, int], Iterable[str]]] | None
    encode_basestring: Callable[[str], str]
else:
    try:  # the json package costs 6 ms of every start, most of it for re; its C half alone 0.4 ms
        from _json import encode_basestring, make_encoder, make_scanner
    except ImportError:  # an interpreter other than CPython
        make_scanner = make_encoder = None

#: Bytes: an image manifest with a whitelist of 100 000 paths stays below.
LIMIT = 16 << 20
#: Levels of arrays and objects; a manifest needs eight.
MAX_DEPTH = 64
#: Problems that one error lists: a hostile list must not make a megabyte of message.
MAX_PROBLEMS = 100
_INTEGER_DIGITS = 20
_BLANKS = " \t\n\r"


class Problems(ValueError):
    """What is wrong with a value: pairs of a path (may be empty) and a text."""

    def __init__(self, problems: Iterable[tuple[str, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.lines()))

    def lines(self) -> tuple[str, ...]:
        """Each problem as ``path: text``."""
        return tuple(f"{path}: {text}" if path else text for path, text in self.problems)


def reasons(error: ValueError) -> tuple[str, ...]:
    """The problems inside any ValueError, one line each."""
    return error.lines() if isinstance(error, Problems) else (str(error),)


# --- text to values ---


def parse(data: bytes, *, limit: int = LIMIT) -> object:
    """The value that `data` holds. ValueError says what is wrong and, where known, in which line."""
    if len(data) > limit:
        raise ValueError(f"{len(data)} bytes of JSON are more than the limit of {limit}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from None
    if text.startswith("\ufeff"):
        raise ValueError("the text starts with a byte order mark")
    start = len(text) - len(text.lstrip(_BLANKS))
    try:
        try:
            value, end = _scanner()(text, start)
        except SystemError:
            # The C half makes its error from a class of the other half, which must be loaded for that.
            import json.decoder  # noqa: F401

            value, end = _scanner()(text, start)
    except StopIteration as stop:
        place = stop.value if isinstance(stop.value, int) else start
        raise ValueError(f"{_position(text, place)}: a JSON value is missing") from None
    except RecursionError:
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep") from None
    except ValueError as error:
        if (where := getattr(error, "pos", None)) is None:
            raise
        raise ValueError(f"{_position(text, where)}: {_decapitalise(getattr(error, 'msg', ''))}") from None
    if rest := text[end:].lstrip(_BLANKS):
        place = len(text) - len(rest)
        raise ValueError(f"{_position(text, place)}: data behind the end of the JSON value")
    _check(value, strings="\\u" in text)
    return value


class Number(float):
    """A number with a fraction or an exponent, and how it was written: an amount keeps every digit."""

    __slots__ = ("text",)

    text: str

    def __new__(cls, text: str) -> Self:
        number = super().__new__(cls, text)
        number.text = text
        return number


class _Context:
    """What the C scanner reads its settings from (the attributes of json.JSONDecoder)."""

    strict = True
    object_hook = None
    array_hook = None
    memo: dict[str, str] = {}  # noqa: RUF012 (part of the scanner's interface)

    @staticmethod
    def object_pairs_hook(pairs: list[tuple[str, object]]) -> dict[str, object]:
        members = dict(pairs)
        if len(members) != len(pairs):
            seen: set[str] = set()
            for name, _ in pairs:
                if name in seen:
                    raise ValueError(f"member {quoted(name)} occurs twice in one object")
                seen.add(name)
        return members

    @staticmethod
    def parse_int(text: str) -> int:
        if len(text) > _INTEGER_DIGITS:
            raise ValueError(f"a number of {len(text)} digits is too large")
        return int(text)

    @staticmethod
    def parse_float(text: str) -> float:
        value = Number(text)
        if value - value != 0:
            raise ValueError(f"the number {text[:40]} is too large")
        return value

    @staticmethod
    def parse_constant(text: str) -> NoReturn:
        raise ValueError(f"{text} is not JSON")


def _scanner() -> Callable[[str, int], tuple[Any, int]]:
    if make_scanner is not None:
        return make_scanner(_Context)
    from json import JSONDecoder

    decoder: Any = JSONDecoder(
        object_pairs_hook=_Context.object_pairs_hook,
        parse_int=_Context.parse_int,
        parse_float=_Context.parse_float,
        parse_constant=_Context.parse_constant,
    )
    return decoder.scan_once  # type: ignore[no-any-return]


def _check(value: object, *, strings: bool) -> None:
    """Refuse values nested too deeply and, with `strings`, text that UTF-8 or C cannot carry."""
    level: list[object] = [value]
    depth = 0
    suspicious = False
    while level:
        below: list[object] = []
        containers = False
        for item in level:
            if isinstance(item, dict):
                containers = True
                below.extend(item.values())
                if strings:
                    below.extend(item)
            elif isinstance(item, list):
                containers = True
                below.extend(item)
            elif strings and isinstance(item, str):
                suspicious = suspicious or _is_unfit(item)
        depth += containers
        if depth > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
        level = below
    if suspicious:
        raise Problems(_unfit("", value))


def _is_unfit(text: str) -> bool:
    return "\0" in text or any("\ud800" <= character <= "\udfff" for character in text)


def _unfit(path: str, value: object) -> list[tuple[str, str]]:
    """Each text in `value` that holds a NUL or half of a surrogate pair, with its path."""
    found: list[tuple[str, str]] = []
    if isinstance(value, dict):
        for name, member in value.items():
            found += _unfit(path, name) + _unfit(_joined(path, _step(name)) if path else _step(name), member)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += _unfit(f"{path}[{index}]", item)
    elif isinstance(value, str) and _is_unfit(value):
        fault = "a NUL" if "\0" in value else "half of a surrogate pair"
        found.append((path, f"{quoted(value)} holds {fault}"))
    return found[:MAX_PROBLEMS]


def _position(text: str, offset: int) -> str:
    line = text.count("\n", 0, offset) + 1
    return f"line {line} column {offset - text.rfind(chr(10), 0, offset)}"


def _decapitalise(text: str) -> str:
    return text[:1].lower() + text[1:]


# --- values to text ---


def encode(value: object, *, indent: int | None = None) -> bytes:
    """`value` as UTF-8 JSON: compact, or with `indent` blanks a level. The order of members is kept."""
    if indent is None and make_encoder is not None:
        encoder = make_encoder(None, _unknown, encode_basestring, None, ":", ",", False, False, False)  # noqa: FBT003
        return "".join(encoder(value, 0)).encode()
    from json import dumps

    separators = (",", ":") if indent is None else (",", ": ")
    return dumps(value, indent=indent, separators=separators, ensure_ascii=False, allow_nan=False).encode()


def _unknown(value: object) -> NoReturn:
    raise TypeError(f"a {type(value).__name__} has no JSON form")


# --- values to typed values ---


def quoted(value: object) -> str:
    """`value` as an error shows it: on one line, control characters escaped, cut after 60 characters."""
    if isinstance(value, str):
        shown = "".join(map(_visible, value[:60]))
        return f'"{shown}"' if len(value) <= 60 else f'"{shown}…"'
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return str(value)[:60]


def _visible(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def string(value: object) -> str:
    """A string, possibly empty, without NUL: no manifest field may carry one to a system call."""
    if not isinstance(value, str):
        raise ValueError(f"{quoted(value)} is not a string")
    if "\0" in value:
        raise ValueError(f"{quoted(value)} holds a NUL")
    return value


def nonempty(value: object) -> str:
    """A string of at least one character."""
    if not string(value):
        raise ValueError("may not be empty")
    return str(value)


def boolean(value: object) -> bool:
    """``true`` or ``false``."""
    if not isinstance(value, bool):
        raise ValueError(f"{quoted(value)} is not true or false")
    return value


def integer(value: object) -> int:
    """A whole number written without fraction or exponent; ``true`` is none."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{quoted(value)} is not a whole number")
    return value


def between(lowest: int, highest: int) -> Callable[[object], int]:
    """A whole number in [`lowest`, `highest`]."""

    def check(value: object) -> int:
        if not lowest <= integer(value) <= highest:
            raise ValueError(f"{value} is not between {lowest} and {highest}")
        return integer(value)

    return check


def obj(value: object) -> dict[str, object]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise ValueError(f"{quoted(value)} is not an object")
    return value


def listed(item: Callable[[object], T]) -> Callable[[object], tuple[T, ...]]:
    """A list, each element read by `item`; the problems of all elements are reported."""

    def check(value: object) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise ValueError(f"{quoted(value)} is not a list")
        items: list[T] = []
        problems: list[tuple[str, str]] = []
        for index, element in enumerate(value):
            try:
                items.append(item(element))
            except ValueError as error:
                problems += _prefixed(f"[{index}]", error)
                if len(problems) >= MAX_PROBLEMS:
                    break
        if problems:
            raise Problems(problems)
        return tuple(items)

    return check


def string_map(value: object) -> dict[str, str]:
    """An object whose members are all strings, in the order of their names."""
    members: dict[str, str] = {}
    problems: list[tuple[str, str]] = []
    for name in sorted(obj(value)):
        try:
            members[string(name)] = string(obj(value)[name])
        except ValueError as error:
            problems += _prefixed(quoted(name), error)
    if problems:
        raise Problems(problems[:MAX_PROBLEMS])
    return members


class Fields:
    """The members of one JSON object, read one by one; problems are collected until `finish`.

    A member that could not be read has no usable value: call `finish`, which raises `Problems`, before
    anything is done with what `required` and `optional` returned.
    """

    __slots__ = ("_members", "_problems")

    def __init__(self, value: object) -> None:
        self._problems: list[tuple[str, str]] = []
        self._members: dict[str, object] = {}
        for name, member in obj(value).items():
            folded = name.lower()
            if folded in self._members:
                self._problems.append((_step(name), "occurs twice in one object, spelt differently"))
            self._members[folded] = member

    def __contains__(self, name: str) -> bool:
        """Whether the member is there, be it ``null``."""
        return name.lower() in self._members

    def required(self, name: str, read: Callable[[object], T]) -> T:
        """The member `name`; absent or ``null`` is a problem."""
        value = self._members.get(name.lower())
        if value is None:
            self._problems.append((name, "is required"))
            return _nothing()  # type: ignore[no-any-return]
        return self._read(name, value, read)

    def optional(self, name: str, read: Callable[[object], T], default: D) -> T | D:
        """The member `name`, or `default` where it is absent or ``null`` (Go's zero value)."""
        value = self._members.get(name.lower())
        return default if value is None else self._read(name, value, read)

    def problem(self, name: str, text: str) -> None:
        """Add a problem that concerns the member `name` (may be empty: the object as a whole)."""
        self._problems.append((name, text))

    @property
    def sound(self) -> bool:
        """Whether no problem was found so far: only then may members be compared with each other."""
        return not self._problems

    def finish(self) -> None:
        """Raise what was collected, if anything was."""
        if self._problems:
            raise Problems(self._problems[:MAX_PROBLEMS])

    def _read(self, name: str, value: object, read: Callable[[object], T]) -> T:
        try:
            return read(value)
        except ValueError as error:
            self._problems += _prefixed(name, error)
            return _nothing()  # type: ignore[no-any-return]


def required(members: Mapping[str, object], name: str, read: Callable[[object], T]) -> T:
    """The member `name` of an object, for callers who stop at the first problem."""
    fields = Fields(dict(members))
    value = fields.required(name, read)
    fields.finish()
    return value


def optional(members: Mapping[str, object], name: str, read: Callable[[object], T], *, default: D) -> T | D:
    """As `required`, with `default` where the member is absent or ``null``."""
    fields = Fields(dict(members))
    value = fields.optional(name, read, default)
    fields.finish()
    return value


def _nothing() -> Any:
    return None


def _prefixed(piece: str, error: ValueError) -> list[tuple[str, str]]:
    if not isinstance(error, Problems):
        return [(piece, str(error))]
    return [(_joined(piece, path), text) for path, text in error.problems]


def _step(name: str) -> str:
    """A member's name as part of a path: quoted where it is not an ordinary one."""
    return name if name.isascii() and name.isalnum() else quoted(name)


def _joined(piece: str, path: str) -> str:
    return f"{piece}.{path}" if path and not path.startswith("[") else piece + path
