"""Output: results and messages, what is kept off a terminal, and errors as people read them."""

from __future__ import annotations

import argparse
import io
import json
import os
import pty

import pytest

from console import terminal
from console.errors import UsageError
from console.output import Output, add_format
from console.progress import Progress


class Failed(Exception):
    hint = "do that"


@pytest.fixture
def out() -> Output:
    return Output(io.StringIO(), io.StringIO(), where="verb")


def text(stream: object) -> str:
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


def test_results_go_to_stdout_and_messages_to_stderr(out: Output) -> None:
    out.line("result")
    out.note("note")
    out.warn("odd", hint="look")
    out.debug("not shown")

    assert text(out.stdout) == "result\n"
    assert text(out.stderr) == "verb: note\nverb: warning: odd\nhint: look\n"


def test_control_characters_of_strangers_do_not_reach_the_terminal(out: Output) -> None:
    out.line("a\x1b[31mb\tc")
    out.table([["x\ny\x07", "ü"]], ["one", "two"], legend=False)
    out.note("bell\x07 \u202e")

    assert text(out.stdout) == "a\\x1b[31mb\tc\nx\\ny\\x07\tü\n"
    assert text(out.stderr) == "verb: bell\\x07 \\u202e\n"


def test_json_has_no_blanks_and_pretty_json_is_indented_by_tabs(out: Output) -> None:
    out.json({"a": [1, "ü"]})
    out.json({"a": 1}, pretty=True)

    assert text(out.stdout) == '{"a":[1,"ü"]}\n{\n\t"a": 1\n}\n'


ROWS = [{"uuid": "u1", "image_id": "i1"}, {"uuid": "u2"}]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("table", "UUID\tIMAGE ID\nu1\ti1\nu2\t\n"),
        ("", "UUID\tIMAGE ID\nu1\ti1\nu2\t\n"),
        ("{image_id}-{uuid}", "i1-u1\n-u2\n"),
        ("json", json.dumps(ROWS, separators=(",", ":")) + "\n"),
    ],
)
def test_a_listing_in_every_form(out: Output, form: str, expected: str) -> None:
    out.listing(form, ROWS, ("uuid", "image_id"))

    assert text(out.stdout) == expected


@pytest.mark.parametrize("form", ["{nope}", "xml"])
def test_a_wrong_format_is_refused_while_parsing(form: str) -> None:
    parser = argparse.ArgumentParser()
    add_format(parser, ("uuid", "state"))

    with pytest.raises(UsageError):
        parser.parse_args(["--format", form])


def test_an_error_shows_its_innermost_cause_and_a_hint(out: Output) -> None:
    try:
        try:
            try:
                raise OSError(2, "No such file or directory", "/a")
            except OSError as error:
                raise ValueError("middle") from error
        except ValueError as error:
            raise Failed("outer") from error
    except Failed as error:
        out.error(error)
        assert text(out.stderr) == "verb: outer: /a: No such file or directory\nhint: do that\n"
        out.debugging = True
        out.error(error)
        assert text(out.stderr).endswith(
            "verb: outer\n  └─middle\n    └─/a: No such file or directory\nhint: do that\n"
        )


def test_a_cause_that_the_message_holds_already_is_not_repeated(out: Output) -> None:
    try:
        try:
            raise ValueError("bad thing")
        except ValueError as error:
            raise Failed("file: bad thing") from error
    except Failed as error:
        out.error(error)

    assert text(out.stderr) == "verb: file: bad thing\nhint: do that\n"


@pytest.mark.parametrize(
    ("environment", "mode", "expected"),
    [
        ({"TERM": "xterm"}, "auto", True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, "auto", False),
        ({"TERM": "xterm", "NO_COLOR": ""}, "auto", True),
        ({"TERM": "dumb"}, "auto", False),
        ({"TERM": "dumb", "NO_COLOR": "1"}, "always", True),
        ({"TERM": "xterm"}, "never", False),
    ],
)
def test_colour_on_a_terminal(
    environment: dict[str, str], mode: str, *, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    primary, secondary = pty.openpty()
    try:
        with os.fdopen(secondary, "w") as stream:
            assert terminal.wants_colour(stream, mode) is expected
    finally:
        os.close(primary)


def test_no_colour_and_no_progress_off_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()

    with Progress(stream, "fetch", 10) as progress:
        progress.advance(10)

    assert stream.getvalue() == ""
    assert not terminal.wants_colour(stream)


@pytest.mark.parametrize("quiet", [False, True])
def test_progress_redraws_at_most_ten_times_a_second(*, quiet: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    if quiet:
        monkeypatch.setenv("RKT_NO_PROGRESS", "1")
    primary, secondary = pty.openpty()
    try:
        with os.fdopen(secondary, "w") as stream, Progress(stream, "fetch", 1 << 20) as progress:
            for _ in range(1 << 10):
                progress.advance(1 << 10)
        drawn = os.read(primary, 1 << 16).decode()
    finally:
        os.close(primary)

    assert "fetch  1.0MiB of 1.0MiB  100%" in drawn
    assert drawn.count("fetch") <= 3
    assert ("\x1b[K" in drawn) is not quiet
