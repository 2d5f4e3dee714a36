"""The journal's native protocol, read back as journald reads it."""

from __future__ import annotations

import array
import fcntl
import os
import signal
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from linux.systemd import journal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        receiver.bind(str(tmp_path / "socket"))
        receiver.settimeout(5)
        yield receiver


@pytest.fixture
def sender(tmp_path: Path) -> Iterator[journal.Journal]:
    found = journal.Journal(str(tmp_path / "socket"))
    yield found
    found.close()


def _received(journald: socket.socket) -> tuple[bytes, int]:
    """The content of the next entry, and the process that it is from."""
    data, ancillary, _, _ = journald.recvmsg(1 << 20, 200)
    pid = 0
    for level, kind, content in ancillary:
        assert level == socket.SOL_SOCKET
        if kind == socket.SCM_RIGHTS:
            (fd,) = array.array("i", content)
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
            assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & seals == seals
            data = os.pread(fd, 1 << 22, 0)
            os.close(fd)
        else:
            pid = struct.unpack("iii", content)[0]
    return data, pid


def _parsed(data: bytes) -> dict[bytes, bytes]:
    found = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack("<Q", data[:8])
            value, data = data[8 : 8 + length], data[8 + length :]
            assert data[:1] == b"\n"
            data = data[1:]
        found[name] = value
    return found


def test_values_with_and_without_newlines(journald: socket.socket, sender: journal.Journal) -> None:
    fields = {b"MESSAGE": b"two\nlines=1", b"PRIORITY": b"6", b"RKT_APP": b"a=b"}
    assert sender.send(b"".join(journal.field(name.decode(), value) for name, value in fields.items()))
    data, pid = _received(journald)
    assert _parsed(data) == fields
    assert pid == os.getpid()


def test_a_large_entry_goes_as_a_sealed_file(journald: socket.socket, sender: journal.Journal) -> None:
    text = os.urandom(700_000)
    assert sender.send(journal.field("MESSAGE", text))
    assert _parsed(_received(journald)[0]) == {b"MESSAGE": text}
    assert not sender.send(journal.field("MESSAGE", bytes(2 << 20)))


def test_an_entry_in_the_name_of_another_process(
    root: None, journald: socket.socket, sender: journal.Journal
) -> None:
    child = os.fork()
    if child == 0:
        signal.pause()
    try:
        assert sender.send(journal.field("MESSAGE", b"x"), pid=child)
        assert _received(journald) == (b"MESSAGE=x\n", child)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert sender.send(journal.field("MESSAGE", b"late"), pid=child)
    assert _received(journald) == (b"MESSAGE=late\n", os.getpid())


def test_a_journal_that_is_slow_or_away_is_not_waited_for(tmp_path: Path, sender: journal.Journal) -> None:
    assert not sender.send(b"MESSAGE=nobody\n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as slow:
        slow.bind(str(tmp_path / "socket"))
        taken = [sender.send(b"MESSAGE=x\n") for _ in range(1000)]
        assert taken[0]
        assert not taken[-1]
        while not taken[-1]:
            slow.recv(100)
            taken.append(sender.send(b"MESSAGE=again\n"))


def test_whether_a_stream_is_the_journals() -> None:
    reading, writing = os.pipe()
    info = os.fstat(writing)
    assert journal.is_stream(writing, f"{info.st_dev}:{info.st_ino}")
    assert not journal.is_stream(writing, f"{info.st_dev}:{info.st_ino + 1}")
    assert not journal.is_stream(writing, "")
    os.close(reading)
    os.close(writing)
    assert not journal.is_stream(writing, f"{info.st_dev}:{info.st_ino}")
