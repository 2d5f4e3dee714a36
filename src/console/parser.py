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


def _formatter(prog: str) -> argparse.HelpFormatter:
    """argparse makes one for each argument; with a width it does without importing shutil (4 ms)."""
    return argparse.HelpFormatter(prog, width=80)


class Parser(argparse.ArgumentParser):
    """The parser of one verb."""

    def __init__(self, prog: str, *, single_dash: bool = False) -> None:
        super().__init__(prog=prog, add_help=False, allow_abbrev=False, formatter_class=_formatter)
        self.single_dash = single_dash
        self.add_argument("-h", "--help", action=_Help, help="show this help")

    def error(self, message: str) -> NoReturn:
        hint = None
        words = [word for word in message.removeprefix("unrecognized arguments: ").split() if word != "--"]
        unknown = [word.split("=")[0] for word in words if word.startswith("-")]
        if message.startswith("unrecognized") and unknown:
            message = f"unknown flag: {unknown[0]}"
            hint = near(unknown[0], self._option_string_actions, "`{}`")
        elif message.startswith("unrecognized"):
            message = f"unexpected argument: {words[0] if words else 'an empty one'}"
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
        flags, words = self._sorted(argv, stop_early=open_ended)
        return self.parse_args([*flags, "--", *words] if words else flags)

    def _sorted(self, argv: Sequence[str], *, stop_early: bool) -> tuple[list[str], list[str]]:
        """Part flags from words, and rewrite Go's spellings of flags into argparse's.

        Words after `--` are no flags, nor, with `stop_early`, those after the first that is none.
        """
        flags: list[str] = []
        words: list[str] = []
        rest = iter(argv)
        for word in rest:
            if word == "--":
                break
            if not word.startswith("-") or word == "-":
                words.append(word)
                if stop_early:
                    break
                continue
            if self.single_dash and not word.startswith("--") and len(word.split("=")[0]) > 2:
                word = "-" + word
            flag, joined, value = word.partition("=")
            action = self._option_string_actions.get(flag)
            if action is not None and action.nargs == "?":
                # pflag's NoOptDefVal: the word that follows is never the value.
                flags.append(word if joined else f"{flag}={action.const}")
            elif action is not None and action.nargs == 0 and joined:
                flags += self._switch(flag, value)
            elif action is not None and action.nargs is None and not joined:
                following = next(rest, None)  # whatever it looks like
                between = "=" if flag.startswith("--") else ""
                flags.append(word if following is None else f"{flag}{between}{following}")
            else:
                flags.append(word)
        left = list(rest)
        if stop_early and left[:1] == ["--"]:
            del left[0]  # `enter POD -- ls -l`
        return flags, words + left

    def _switch(self, flag: str, value: str) -> list[str]:
        if value in _TRUE:
            return [flag]
        if value not in _FALSE:
            raise UsageError(f"{flag}: {value!r} is neither true nor false")
        return []
