"""Tables, templates, and numbers for people."""

from __future__ import annotations

import time

import pytest

from console.errors import UsageError
from console.formats import humane, table
from console.formats.template import Template


def test_a_table_is_laid_out_as_by_text_tabwriter() -> None:
    # 7 + 1 fills one stop, 8 + 1 takes the second: what Go's tabwriter prints with (0, 8, 1, '\t', 0).
    assert table.lines([["ID", "NAME", "X"], ["1234567", "12345678", "end"]]) == [
        "ID\tNAME\t\tX",
        "1234567\t12345678\tend",
    ]
    assert table.lines([]) == []
    assert table.lines([["", "b"]]) == ["\tb"]


def test_a_template_knows_a_closed_set_of_names() -> None:
    made = Template(r"{a:<4}|{b}\t{{c}}\q", ["a", "b"])

    assert made.render({"a": 1, "b": None}) == "1   |\t{c}\\q"
    assert made.render({"a": True, "b": ["x", 2]}) == "true|x,2\t{c}\\q"


@pytest.mark.parametrize(
    "text", ["{nope}", "{a.b}", "{a[0]}", "{a!r}", "{0}", "{}", "{a:>9999}", "{a:{b}}", "{a", "}"]
)
def test_a_template_that_reaches_elsewhere_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--format"):
        Template(text, ["a", "b"])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "now"),
        (1, "1 second ago"),
        (59, "59 seconds ago"),
        (60, "1 minute ago"),
        (3599, "59 minutes ago"),
        (7200, "2 hours ago"),
        (86400 * 1.5, "1 day ago"),
        (86400 * 6, "6 days ago"),
        (86400 * 8, "1 week ago"),
        (86400 * 70, "2 months ago"),
        (86400 * 365, "1 year ago"),
        (86400 * 365 * 5, "5 years ago"),
        (-120, "2 minutes from now"),
    ],
)
def test_ago(seconds: float, text: str) -> None:
    assert humane.ago(1_000_000_000 - seconds, 1_000_000_000) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0B"), (913, "913B"), (1024, "1.0KiB"), (1536, "1.5KiB"), (12 << 20, "12MiB"), (1 << 70, "1024EiB")],
)
def test_size(count: int, text: str) -> None:
    assert humane.size(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(45, "45s"), (1800, "30m0s"), (86400, "24h0m0s"), (0, "0s")])
def test_duration(seconds: int, text: str) -> None:
    assert humane.duration(seconds) == text


def test_timestamp_has_gos_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "CET-1")
    time.tzset()
    try:
        assert humane.timestamp(1_136_214_245.9) == "2006-01-02 16:04:05.9 +0100 CET"
        assert humane.timestamp(1_136_214_245) == "2006-01-02 16:04:05 +0100 CET"
    finally:
        monkeypatch.undo()
        time.tzset()
