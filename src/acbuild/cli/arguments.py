"""The arguments of acbuild's commands: parsed without argparse, which would double what a command costs.

As in acbuild 0.4 flags stand anywhere before ``--``, and take their value behind ``=`` or as the next word.
"""

from __future__ import annotations

from acbuild.errors import AcbuildError
from console.errors import UsageError, near
from linux.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")


class Flag(NamedTuple):
    """A flag; without `metavar` it takes no value, with `repeatable` any number of them.

    `check` raises ValueError for a value that cannot be understood: the command line is wrong then.
    """

    name: str
    metavar: str
    help: str
    repeatable: bool = False
    choices: tuple[str, ...] = ()
    check: Callable[[str], object] | None = None


class Syntax(NamedTuple):
    """What a command takes: `words` for the help, between `least` and `most` of them (-1: no end), flags.

    With `passes_on` the words behind ``--`` are not counted: they are somebody else's arguments.
    """

    words: str
    least: int
    most: int
    flags: tuple[Flag, ...] = ()
    help: str = ""
    passes_on: bool = False

    def declare(self, parser: argparse.ArgumentParser) -> None:
        """Tell the parser, which only help, man page and completion use."""
        parser.usage = " ".join(filter(None, ("[flags]" if self.flags else "", self.words)))
        if self.words:
            only = self.words[0] == "[" and self.words.find("]") == len(self.words) - 1
            metavar = self.words[1:-1] if only else self.words
            parser.add_argument("words", metavar=metavar, nargs="*", help=self.help)
        for flag in self.flags:
            if flag.metavar:
                choices = flag.choices or None
                parser.add_argument(f"--{flag.name}", metavar=flag.metavar, choices=choices, help=flag.help)
            else:
                parser.add_argument(f"--{flag.name}", action="store_true", help=flag.help)

    def parse(self, argv: Sequence[str]) -> Given:
        """UsageError for an unknown flag, AcbuildError for too few or too many words."""
        given = Given()
        known = {flag.name: flag for flag in self.flags}
        rest = iter(argv)
        for word in rest:
            if word == "--":
                behind = list(rest)
                if self.passes_on:
                    given.behind = behind
                else:
                    given.words += behind
                break
            if not word.startswith("-") or word == "-":
                given.words.append(word)
                continue
            name, joined, value = word.removeprefix("-").removeprefix("-").partition("=")
            flag = known.get(name) if word.startswith("--") else None
            if flag is None:
                hint = near(f"--{name}", [f"--{one}" for one in known], "`{}`")
                raise UsageError(
                    f"unknown flag: {word.partition('=')[0]}", hint=hint or "put `--` in front of other words"
                )
            if not flag.metavar:
                given.values[name] = _boolean(name, value) if joined else True
                continue
            if not joined:
                following = next(rest, None)
                if following is None:
                    raise UsageError(f"--{name}: needs a value")
                value = following
            given.put(flag, value)
        if not self.least <= len(given.words) <= (len(given.words) if self.most < 0 else self.most):
            raise AcbuildError("incorrect number of arguments", hint=f"what it takes: {self.words or 'none'}")
        return given


class Given:
    """What was typed: the words, and the flags with their values. `read` are files that were read then."""

    __slots__ = ("behind", "read", "values", "words")

    def __init__(self) -> None:
        self.words: list[str] = []
        self.behind: list[str] = []
        self.read: list[tuple[str, bytes]] = []
        self.values: dict[str, bool | str | list[str]] = {}

    def put(self, flag: Flag, value: str) -> None:
        if flag.choices and value not in flag.choices:
            raise AcbuildError(f"--{flag.name}: {value!r} is none of {', '.join(flag.choices)}")
        if flag.check is not None:
            try:
                flag.check(value)
            except ValueError as error:
                raise UsageError(f"--{flag.name}: {error}") from None
        if flag.repeatable:
            self.values[flag.name] = [*self.all(flag.name), value]
        else:
            self.values[flag.name] = value

    def on(self, name: str) -> bool:
        """Whether the switch was given."""
        return bool(self.values.get(name))

    def text(self, name: str, default: str = "") -> str:
        """The value of a flag."""
        value = self.values.get(name)
        return value if isinstance(value, str) else default

    def gpg(self) -> list[str] | None:
        """The arguments for gpg, which stand behind `--`; None without --sign, which is an error for them."""
        if self.on("sign"):
            return self.behind
        if self.behind:
            raise AcbuildError("arguments for gpg make sense with --sign only")
        return None

    def all(self, name: str) -> list[str]:
        """The values of a repeatable flag."""
        value = self.values.get(name)
        return value if isinstance(value, list) else []


def whole(text: str) -> int:
    """A number without a sign, of at most 63 bits."""
    from appc.query import number

    return number(text, highest=2**63 - 1)


def label(text: str) -> tuple[str, str]:
    """The name and the value of ``NAME=VALUE``."""
    from appc.types.names import ACIdentifier

    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r} has no value: it is NAME=VALUE")
    return ACIdentifier(name), value


def _boolean(name: str, value: str) -> bool:
    if value not in _TRUE + _FALSE:
        raise UsageError(f"--{name}: {value!r} is neither true nor false")
    return value in _TRUE
