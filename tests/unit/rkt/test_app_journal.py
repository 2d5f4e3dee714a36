"""What the lines of an app become in the journal."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from linux.systemd.journal import Journal
from rkt.stage1.native import journal

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    app.write(b"one\n\n<4>two", 0, 0)
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
    app.write(line, 0, 0)
    (entry,) = _entries(journald)
    assert (entry["PRIORITY"], entry["MESSAGE"]) == (priority, message)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[journal.PodJournal]:
    pod_dir = str(tmp_path / UUID)
    journal.make_directory(pod_dir)
    found = journal.PodJournal(pod_dir, "rkt-host", os.getpid())
    yield found
    found.close()


def _in_files(tmp_path: Path) -> list[dict[str, str]]:
    if shutil.which("journalctl") is None:
        pytest.skip("needs journalctl (Debian: systemd)")
    command = ["journalctl", "--output=json", "--quiet", f"--directory={tmp_path / UUID / 'journal'}"]
    read = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in read.splitlines()]


def test_the_pods_own_journal_has_what_a_journald_in_the_pod_would_have_written(
    journald: socket.socket, tmp_path: Path, own: journal.PodJournal
) -> None:
    to = Journal(str(tmp_path / "socket"))
    fields = journal.fields_of("web", UUID, "sha512-00", 17)
    app = journal.AppJournal(to, fields, instead=True, own=own)
    app.write(b"one\n<3>two", 4711, 4)
    to.close()
    assert len(_entries(journald)) == 2, "the host's has them too"
    first, second = _in_files(tmp_path)
    assert {name: value for name, value in first.items() if not name.startswith("__")} == {
        "SYSLOG_IDENTIFIER": "web",
        "SYSLOG_FACILITY": "3",
        "RKT_POD": UUID,
        "RKT_APP": "web",
        "RKT_IMAGE": "sha512-00",
        "PRIORITY": "6",
        "MESSAGE": "one",
        "_PID": "4",
        "_TRANSPORT": "stdout",
        "_HOSTNAME": "rkt-host",
        "_MACHINE_ID": UUID.replace("-", ""),
        "_BOOT_ID": Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", ""),
    }
    assert (second["PRIORITY"], second["MESSAGE"]) == ("3", "two")


def test_the_pods_own_journal_takes_so_many_bytes_in_a_while(
    tmp_path: Path, own: journal.PodJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "BYTES", 30)
    own.write((b"RKT_APP=web",), [(6, b"%d45678" % number) for number in range(8)], 4)
    monkeypatch.setattr(journal, "INTERVAL", 0.0)
    own.write((b"RKT_APP=web",), [(6, b"later")], 4)
    messages = [entry["MESSAGE"] for entry in _in_files(tmp_path)]
    assert messages == [*(f"{number}45678" for number in range(5)), "rkt: 3 lines left out", "later"]


def test_a_journal_of_the_pod_that_cannot_be_written_is_told_once(
    journald: socket.socket, tmp_path: Path
) -> None:
    pod_dir = tmp_path / UUID
    journal.make_directory(str(pod_dir))
    own = journal.PodJournal(str(pod_dir), "rkt-host", os.getpid())
    shutil.rmtree(pod_dir)
    to = Journal(str(tmp_path / "socket"))
    app = journal.AppJournal(to, journal.fields_of("web", UUID, "", 1), instead=False, own=own)
    app.write(b"one", 0, 0)
    app.write(b"two", 0, 0)
    to.close()
    assert [entry["MESSAGE"] for entry in _entries(journald)] == [
        "one",
        "rkt: the journal of the pod: No such file or directory",
        "two",
    ]


def test_lines_beyond_what_journald_takes_are_counted(
    journald: socket.socket, app: journal.AppJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "BURST", 3)
    app.write(b"\n".join(b"%d" % number for number in range(8)), 0, 0)
    assert [entry["MESSAGE"] for entry in _entries(journald)] == ["0", "1", "2"]
    monkeypatch.setattr(journal, "INTERVAL", 0.0)
    app.write(b"later", 0, 0)
    told, later = _entries(journald)
    assert (told["PRIORITY"], told["MESSAGE"]) == ("4", "rkt: 5 lines left out")
    assert later["MESSAGE"] == "later"
