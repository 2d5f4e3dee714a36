"""Flags and words of acbuild's commands, and the lines of its scripts."""

from __future__ import annotations

import pytest

from acbuild import script
from acbuild.cli.arguments import Flag, Syntax
from acbuild.cli.edits import TABLE
from acbuild.cli.main import PROGRAM, EditVerb
from acbuild.errors import AcbuildError
from console.errors import UsageError

SYNTAX = Syntax(
    "A B",
    1,
    2,
    (Flag("on", "", "x"), Flag("one", "X", "x"), Flag("many", "X", "x", repeatable=True)),
)


def test_flags_stand_anywhere_before_the_dashes() -> None:
    given = SYNTAX.parse(["a", "--on", "--one=1", "--many", "--x", "--many=y", "--", "--b"])
    assert (given.words, given.on("on"), given.text("one"), given.all("many")) == (
        ["a", "--b"],
        True,
        "1",
        ["--x", "y"],
    )
    assert not SYNTAX.parse(["a", "--on=false"]).on("on")
    assert SYNTAX.parse(["-"]).words == ["-"]


@pytest.mark.parametrize(
    "argv", [["a", "--no"], ["a", "-x"], ["a", "--one"], ["a", "--on=maybe"], ["-on", "a"]]
)
def test_flags_that_cannot_be(argv: list[str]) -> None:
    with pytest.raises(UsageError):
        SYNTAX.parse(argv)


@pytest.mark.parametrize(
    ("verb", "flag", "value"),
    [
        ("port add", "count", "x"),
        ("port add", "count", "-1"),
        ("dependency add", "size", "1k"),
        ("dependency add", "size", str(2**63)),
        ("dependency add", "label", "version"),
        ("dependency add", "label", "BAD=1"),
    ],
)
def test_values_that_cannot_be_understood(verb: str, flag: str, value: str) -> None:
    """Status 3, as of a flag that is not known, and before the build is looked for."""
    with pytest.raises(UsageError, match=f"--{flag}"):
        TABLE[verb].parse([f"--{flag}={value}", "a"])


def test_a_value_that_is_no_choice_is_an_error_of_the_command() -> None:
    syntax = Syntax("", 0, 0, (Flag("kind", "KIND", "x", choices=("a", "b")),))
    with pytest.raises(AcbuildError, match="'c' is none of a, b"):
        syntax.parse(["--kind=c"])


@pytest.mark.parametrize("argv", [[], ["a", "b", "c"], ["--on"]])
def test_too_few_or_too_many_words(argv: list[str]) -> None:
    with pytest.raises(AcbuildError, match="incorrect number"):
        SYNTAX.parse(argv)


def test_the_table_of_edits_is_that_of_verbs() -> None:
    assert {verb.name for verb in PROGRAM.verbs if isinstance(verb, EditVerb)} == set(TABLE)


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("w", "write"),
        ("re", "replace-manifest"),
        ("cat", "cat-manifest"),
        ("set-n", "set-name"),
        ("b", "begin"),
        ("set-w", "set-working-directory"),
    ],
)
def test_prefixes_of_old_scripts(word: str, name: str) -> None:
    assert PROGRAM.find([word])[0].name == name


def test_prefixes_of_other_names() -> None:
    assert PROGRAM.find(["vol", "add"])[0].name == "mount add"
    assert PROGRAM.find(["vol", "rm"])[0].name == "mount remove"


@pytest.mark.parametrize("word", ["c", "l", "set-", "x", ""])
def test_prefixes_that_say_too_little(word: str) -> None:
    with pytest.raises(UsageError):
        PROGRAM.find([word])


def test_a_script_knows_its_lines() -> None:
    text = "#!/usr/bin/acbuild-script\n\n  BEGIN ./x # from\nrun --engine=chroot sh \\\n -c 'a # b'\n"
    assert script.parse(text, "s") == [
        script.Line(3, ["begin", "./x"]),
        script.Line(5, ["run", "--engine=chroot", "--", "sh", "-c", "a # b"]),
    ]
    assert script.tokenize("environment add A ''") == ["environment", "add", "A", ""]
    assert script.parse("endpoint\n", "s")[0].words == ["endpoint"]
    with pytest.raises(AcbuildError, match="s:2: ended with an escape"):
        script.parse("begin\nset-name a\\", "s")
