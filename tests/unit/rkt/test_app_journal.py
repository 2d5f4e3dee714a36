"""What the lines of an app become in the journal."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from linux.systemd.journal import Journal
from rkt.stage1.native import journal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UUID = "5bc080ca-6ae3-4ea5-b7f3-3f7ef8c8d8a2"


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "socket"))
        receiver.setblocking(False)
        yield receiver


@pytest.fixture
def app(tmp_path: Path) -> Iterator[journal.AppJournal]:
    to = Journal(str(tmp_path / "socket"))
    fields = journal.fields_of("web", UUID, "sha512-00", 17)
    yield journal.AppJournal(to, fields, instead=False)
    to.close()


def _entries(journald: socket.socket) -> list[dict[str, str]]:
    found = []
    while True:
        try:
            data = journald.recv(1 << 16)
        except BlockingIOError:
            return found
        lines = data.decode("utf-8", "replace").splitlines()
        found.append(dict(line.split("=", 1) for line in lines))


def test_every_line_is_an_entry(journald: socket.socket, app: journal.AppJournal) -> None:
    app.write(b"one\n\n<4>two", 0)
    first, second = _entries(journald)
    assert first == {
        "SYSLOG_IDENTIFIER": "web",
        "SYSLOG_FACILITY": "3",
        "RKT_POD": UUID,
        "RKT_APP": "web",
        "RKT_IMAGE": "sha512-00",
        "OBJECT_PID": "17",
        "PRIORITY": "6",
        "MESSAGE": "one",
    }
    assert (second["PRIORITY"], second["MESSAGE"]) == ("4", "two")


@pytest.mark.parametrize(
    ("line", "priority", "message"),
    [
        (b"<7>x", "7", "x"),
        (b"<0>a wall to every user", "1", "a wall to every user"),
        (b"<8>x", "6", "<8>x"),
        (b"<12>x", "6", "<12>x"),
        (b"<", "6", "<"),
        (b"PRIORITY=0", "6", "PRIORITY=0"),
    ],
)
def test_priorities(
    journald: socket.socket, app: journal.AppJournal, line: bytes, priority: str, message: str
) -> None:
    app.write(line, 0)
    (entry,) = _entries(journald)
    assert (entry["PRIORITY"], entry["MESSAGE"]) == (priority, message)


def test_lines_beyond_what_journald_takes_are_counted(
    journald: socket.socket, app: journal.AppJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "BURST", 3)
    app.write(b"\n".join(b"%d" % number for number in range(8)), 0)
    assert [entry["MESSAGE"] for entry in _entries(journald)] == ["0", "1", "2"]
    monkeypatch.setattr(journal, "INTERVAL", 0.0)
    app.write(b"later", 0)
    told, later = _entries(journald)
    assert (told["PRIORITY"], told["MESSAGE"]) == ("4", "rkt: 5 lines left out")
    assert later["MESSAGE"] == "later"
