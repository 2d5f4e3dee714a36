"""Go's habits on the command line: mixed order, switches with values, joined values, no abbreviations."""

from __future__ import annotations

import argparse

import pytest

from console.errors import UsageError
from console.parser import HelpWanted, Parser


def parser(*, single_dash: bool = False) -> Parser:
    made = Parser("prog verb", single_dash=single_dash)
    made.add_argument("--full", action="store_true")
    made.add_argument("--name")
    made.add_argument("--wait", nargs="?", const="true", default="false")
    made.add_argument("words", nargs="*")
    return made


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["a", "--full", "b"], (True, None, "false", ["a", "b"])),
        (["--full=true"], (True, None, "false", [])),
        (["--full=F", "a"], (False, None, "false", ["a"])),
        (["--name", "x", "a"], (False, "x", "false", ["a"])),
        (["--name", "--full"], (False, "--full", "false", [])),
        (["--name=--full"], (False, "--full", "false", [])),
        (["--wait", "a"], (False, None, "true", ["a"])),
        (["a", "--wait=5s"], (False, None, "5s", ["a"])),
        (["--name", "x", "--name=y"], (False, "y", "false", [])),
        (["a", "--", "--full"], (False, None, "false", ["a", "--full"])),
        (["a", "--full=true", "--", "--", "-x"], (True, None, "false", ["a", "--", "-x"])),
        (["--", "-x"], (False, None, "false", ["-x"])),
        (["-"], (False, None, "false", ["-"])),
        (["--ful"], None),
        (["--full=maybe"], None),
        (["-full"], None),
        (["--bogus"], None),
    ],
)
def test_go_style(argv: list[str], expected: tuple[object, ...] | None) -> None:
    if expected is None:
        with pytest.raises(UsageError):
            parser().parse(argv)
        return
    options = parser().parse(argv)
    assert (options.full, options.name, options.wait, options.words) == expected


def test_one_dash_is_as_good_as_two_when_the_program_says_so() -> None:
    options = parser(single_dash=True).parse(["-full", "-name", "-x", "a", "-wait=3s"])

    assert (options.full, options.name, options.wait, options.words) == (True, "-x", "3s", ["a"])


def test_what_follows_the_first_word_of_an_open_ended_verb_is_left_alone() -> None:
    made = Parser("prog enter")
    made.add_argument("--app")
    made.add_argument("--privileged", action="store_true")
    made.add_argument("uuid")
    made.add_argument("command", nargs=argparse.REMAINDER)

    options = made.parse([
        "--app",
        "web",
        "--privileged=true",
        "u1",
        "ls",
        "--app=x",
        "--privileged=true",
        "-h",
    ])

    assert (options.app, options.privileged, options.uuid) == ("web", True, "u1")
    assert options.command == ["ls", "--app=x", "--privileged=true", "-h"]


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        (["--fulll"], "unknown flag: --fulll", "did you mean `--full`?"),
        (["--qqqq=1"], "unknown flag: --qqqq", "see `prog verb --help`"),
        (["--name"], "argument --name: expected one argument", "see `prog verb --help`"),
    ],
)
def test_errors_carry_hints(argv: list[str], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as refused:
        parser().parse(argv)

    assert (str(refused.value), refused.value.hint) == (message, hint)


@pytest.mark.parametrize("argv", [["extra"], ["--", "extra"], ["extra", "--"]])
def test_an_argument_too_many_is_named(argv: list[str]) -> None:
    with pytest.raises(UsageError, match=r"^unexpected argument: extra$"):
        Parser("prog verb").parse(argv)


@pytest.mark.parametrize("argv", [[""], ["\n"], [" ", ""]])
def test_an_argument_too_many_may_be_empty(argv: list[str]) -> None:
    with pytest.raises(UsageError, match=r"^unexpected argument: an empty one$"):
        Parser("prog verb").parse(argv)


def test_help_is_found_before_missing_arguments() -> None:
    made = Parser("prog verb")
    made.add_argument("needed")

    with pytest.raises(HelpWanted):
        made.parse(["--help"])
    with pytest.raises(UsageError, match="missing argument: needed"):
        made.parse([])
