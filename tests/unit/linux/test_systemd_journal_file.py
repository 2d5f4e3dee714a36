"""Journal files, read back by journalctl."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from linux.systemd import journal_file
from linux.systemd.journal_file import NAME, JournalFile

if TYPE_CHECKING:
    from collections.abc import Iterator

MACHINE, BOOT = bytes(range(16)), bytes(range(1, 17))
SHARED = (b"SYSLOG_IDENTIFIER=web", b"_HOSTNAME=pod", b"_PID=4")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[JournalFile]:
    if shutil.which("journalctl") is None:
        pytest.skip("needs journalctl (Debian: systemd)")
    found = JournalFile(str(tmp_path), MACHINE, BOOT)
    yield found
    found.close()


def _ctl(directory: Path, *options: str) -> str:
    command = ["journalctl", "--quiet", "--no-pager", f"--directory={directory}", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _messages(directory: Path, *options: str) -> list[str]:
    return _ctl(directory, "--output=cat", *options).splitlines()


def _entries(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _ctl(directory, "--all", "--output=json").splitlines()]


def _verify(directory: Path) -> None:
    for path in directory.iterdir():
        command = ["journalctl", f"--file={path}", "--verify"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def _line(text: str, *more: bytes) -> tuple[bytes, ...]:
    return (*SHARED, *more, b"MESSAGE=" + text.encode())


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"", 0xDEADBEEFDEADBEEF),
        (b"Four score and seven years ago", 0x17770551CE7226E6),
    ],
)
def test_the_hash_is_that_of_its_authors_examples(data: bytes, value: int) -> None:
    assert journal_file.lookup3(data) == value


def test_journalctl_finds_entries_by_any_field_and_by_time(journal: JournalFile, tmp_path: Path) -> None:
    for number in range(300):
        journal.append([_line(f"line {number % 250}", b"PRIORITY=%d" % (number % 8))])
    journal.append([_line(f"batch {number}", b"RKT_APP=other") for number in range(1000)])
    assert len(_messages(tmp_path)) == 1300
    assert _messages(tmp_path, "-t", "web", "-n", "2") == ["batch 998", "batch 999"]
    assert _messages(tmp_path, "-p", "0") == [f"line {number % 250}" for number in range(0, 300, 8)]
    assert _messages(tmp_path, "MESSAGE=line 7") == ["line 7"] * 2
    assert _messages(tmp_path, "RKT_APP=other", "--reverse", "-n", "1") == ["batch 999"]
    assert sorted(_ctl(tmp_path, "--field=PRIORITY").split()) == list("01234567")
    assert _messages(tmp_path, "--since=+1min") == []
    assert len(_messages(tmp_path, "--since=-1h", "--until=+1h")) == 1300
    assert "web[4]: batch 999" in _ctl(tmp_path, "-n", "1")
    _verify(tmp_path)


def test_values_are_kept_byte_for_byte(journal: JournalFile, tmp_path: Path) -> None:
    chosen = random.Random(7)
    texts = [bytes(chosen.randrange(256) for _ in range(chosen.randrange(200))) for _ in range(200)]
    texts += [b"", b"a=b", b"two\nlines", b"x" * 20_000, b"x" * 20_000, "\u00e9\u4e2d".encode()]
    for text in texts:
        journal.append([(*SHARED, b"MESSAGE=" + text)])
    found = [entry["MESSAGE"] for entry in _entries(tmp_path)]
    # journalctl gives what is no text as a list of numbers.
    assert [bytes(text) if isinstance(text, list) else text.encode() for text in found] == texts
    _verify(tmp_path)


def test_a_field_that_is_given_twice_is_one_and_one_with_two_values_keeps_both(
    journal: JournalFile, tmp_path: Path
) -> None:
    journal.append([_line("x", b"COLOUR=red", b"COLOUR=blue", b"COLOUR=red")])
    (entry,) = _entries(tmp_path)
    assert sorted(entry["COLOUR"]) == ["blue", "red"]
    _verify(tmp_path)


def test_nothing_is_made_before_the_first_entry(journal: JournalFile, tmp_path: Path) -> None:
    journal.append([])
    journal.close()
    assert os.listdir(tmp_path) == []
    journal.append([_line("x")])
    assert os.listdir(tmp_path) == [NAME]
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o640


def test_another_process_carries_on_with_a_file_that_was_left_in_order(
    journal: JournalFile, tmp_path: Path
) -> None:
    journal.append([_line("one"), _line("two")])
    journal.close()
    second = JournalFile(str(tmp_path), MACHINE, BOOT)
    second.append([_line("two"), _line("three")])
    second.close()
    assert os.listdir(tmp_path) == [NAME]
    assert _messages(tmp_path) == ["one", "two", "two", "three"]
    assert _messages(tmp_path, "MESSAGE=two") == ["two", "two"]
    _verify(tmp_path)


def test_size_is_bounded_and_sequence_numbers_go_on(
    journal: JournalFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_file, "LIMIT", 200_000)
    for number in range(2000):
        journal.append([_line(f"line {number}")])
    names = sorted(os.listdir(tmp_path))
    assert len(names) == 2
    assert names[0] == NAME
    assert names[1].startswith("system@")
    assert sum((tmp_path / name).stat().st_size for name in names) < 450_000
    found = _messages(tmp_path)
    assert found == [f"line {number}" for number in range(2000 - len(found), 2000)]
    assert len(found) > 200
    cursor = _entries(tmp_path)[-1]["__CURSOR"]
    assert f"i={2000:x};" in cursor
    _verify(tmp_path)


def test_a_clock_that_is_set_back_begins_a_new_file(
    journal: JournalFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.append([_line("late")])
    now = journal_file.time.time_ns()
    monkeypatch.setattr(journal_file.time, "time_ns", lambda: now - 3600 * 10**9)
    journal.append([_line("early")])
    assert len(os.listdir(tmp_path)) == 2
    assert sorted(_messages(tmp_path)) == ["early", "late"]
    _verify(tmp_path)


def test_a_writer_killed_at_any_write_leaves_all_earlier_entries_readable(
    tmp_path: Path, journal: JournalFile
) -> None:
    """And the next writer begins a file of its own, so that nothing is built on what is half done."""
    survived = 0
    for step in range(1, 60):
        directory = tmp_path / str(step)
        directory.mkdir()
        pid = os.fork()
        if pid == 0:
            _write_and_die(directory, step)
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status):
            break
        found = _messages(directory)
        written = (directory.parent / f"{step}.done").read_text().split()
        assert found[: len(written)] == written
        assert len(found) <= len(written) + 1
        after = JournalFile(str(directory), MACHINE, BOOT)
        after.append([_line("after")])
        after.close()
        assert _messages(directory)[: len(written)] == written
        assert _messages(directory)[-1] == "after"
        survived += 1
    assert survived > 30


def _write_and_die(directory: Path, step: int) -> None:
    """In the child: entries until the write number `step`, which is the last thing it does."""
    try:
        write, left = journal_file._write, step

        def counted(fd: int, content: bytes | bytearray, offset: int) -> None:
            nonlocal left
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            write(fd, content, offset)

        journal_file._write = counted
        found = JournalFile(str(directory), MACHINE, BOOT)
        with open(directory.parent / f"{step}.done", "w", encoding="ascii") as done:
            for number in range(5):
                found.append([_line(f"line{number}")])
                done.write(f"line{number}\n")
                done.flush()
    finally:
        os._exit(0)


@pytest.mark.parametrize("content", [b"", b"LPKSHHRH", b"x" * 4096])
def test_a_file_that_is_no_journal_is_put_aside(journal: JournalFile, tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    journal.append([_line("x")])
    assert len(os.listdir(tmp_path)) == 2
    command = ["journalctl", "--quiet", "--output=cat", f"--file={tmp_path / NAME}"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "x\n"


def test_a_full_disk_loses_lines_and_not_the_file(journal: JournalFile, tmp_path: Path) -> None:
    """By the limit of file sizes, which fails writes beyond it and no others."""
    import resource

    journal.append([_line("one")])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / NAME).stat().st_size + 100, limits[1]))
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(OSError, match="File too large"):
            journal.append([_line("two " * 100)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)
    journal.append([_line("three")])
    assert os.listdir(tmp_path) == [NAME]
    assert _messages(tmp_path) == ["one", "three"]
    journal.close()
    _verify(tmp_path)
