"""argparse with the habits of Go's command lines, which scripts written for rkt rely on.

Flags and positional arguments may be mixed; a switch may be written `--full=true`; some flags have a
value only if it is joined (`--wait` and `--wait=5s`); for actool one dash is as good as two.
Abbreviated flags are not taken: a script would break with the next flag that is added.
Errors are raised, never printed, so that `console.main` shows all errors alike.
"""

from __future__ import annotations

import argparse

from console.errors import UsageError, near

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")


class HelpWanted(Exception):
    """`--help` was among the arguments."""


class _Help(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, *_arguments: object, **_keywords: object) -> NoReturn:
        raise HelpWanted


class Parser(argparse.ArgumentParser):
    """The parser of one verb."""

    def __init__(self, prog: str, *, single_dash: bool = False) -> None:
        super().__init__(prog=prog, add_help=False, allow_abbrev=False)
        self.single_dash = single_dash
        self.add_argument("-h", "--help", action=_Help, help="show this help")

    def error(self, message: str) -> NoReturn:
        hint = None
        words = message.removeprefix("unrecognized arguments: ").split()
        unknown = [word.split("=")[0] for word in words if word.startswith("-")]
        if message.startswith("unrecognized") and unknown:
            message = f"unknown flag: {unknown[0]}"
            hint = near(unknown[0], self._option_string_actions, "`{}`")
        elif message.startswith("unrecognized"):
            message = f"unexpected argument: {words[0]}"
        elif message.startswith("the following arguments are required: "):
            message = "missing argument: " + message.removeprefix("the following arguments are required: ")
        raise UsageError(message, hint=hint or f"see `{self.prog} --help`")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise UsageError(message or f"ended with status {status}")

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse `argv`; raises UsageError or HelpWanted."""
        open_ended = any(
            action.nargs in (argparse.REMAINDER, argparse.PARSER) for action in self._get_positional_actions()
        )
        words = self._go_style(argv, stop_early=open_ended)
        return self.parse_args(words) if open_ended else self.parse_intermixed_args(words)

    def _go_style(self, argv: Sequence[str], *, stop_early: bool) -> list[str]:
        """Rewrite Go's spellings into argparse's; with `stop_early` only up to the first positional."""
        out: list[str] = []
        words = iter(argv)
        for word in words:
            if word == "--" or not word.startswith("-") or word == "-":
                out.append(word)
                if word == "--" or stop_early:
                    break
                continue
            if self.single_dash and not word.startswith("--") and len(word.split("=")[0]) > 2:
                word = "-" + word
            flag, joined, value = word.partition("=")
            action = self._option_string_actions.get(flag)
            if action is not None and action.nargs == "?":
                # pflag's NoOptDefVal: the word that follows is never the value.
                out.append(word if joined else f"{flag}={action.const}")
            elif action is not None and action.nargs == 0 and joined:
                out += self._switch(flag, value)
            else:
                out.append(word)
                if action is not None and action.nargs is None and not joined:
                    out += [following for following in (next(words, None),) if following is not None]
        return out + list(words)

    def _switch(self, flag: str, value: str) -> list[str]:
        if value in _TRUE:
            return [flag]
        if value not in _FALSE:
            raise UsageError(f"{flag}: {value!r} is neither true nor false")
        return []
