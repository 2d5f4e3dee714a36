"""sd_notify from both sides, over real sockets: paths, abstract names, hostile messages, the watchdog."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

import pytest

from linux.systemd import notify

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.fixture
def receiver(directory: int) -> Iterator[int]:
    fd = notify.bind(directory, "notify")
    yield fd
    os.close(fd)


def test_a_message_arrives_by_path(receiver: int, tmp_path: Path) -> None:
    notifier = notify.Notifier(str(tmp_path / "notify"))
    assert notify.receive(receiver) is None
    assert notifier.send("READY=1", "STATUS=two apps run", "MAINPID=17")
    assert notify.receive(receiver) == {"READY": "1", "STATUS": "two apps run", "MAINPID": "17"}
    assert notify.receive(receiver) is None


def test_a_message_arrives_by_abstract_name() -> None:
    name = f"rkt-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.bind("\0" + name)
        assert notify.Notifier("@" + name).send("READY=1")
        assert receiving.recv(100) == b"READY=1"


def test_a_supervisor_that_is_gone_or_deaf_does_no_harm(tmp_path: Path) -> None:
    assert not notify.Notifier(str(tmp_path / "nobody")).send("READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(tmp_path / "deaf"))
        notifier = notify.Notifier(str(tmp_path / "deaf"))
        assert [notifier.send("STATUS=x") for _ in range(1000)][-1] is False


def test_take_removes_the_variables_from_what_children_inherit() -> None:
    environment = {
        "NOTIFY_SOCKET": "/run/systemd/notify",
        "WATCHDOG_USEC": "3000000",
        "WATCHDOG_PID": str(os.getpid()),
        "OTHER": "1",
    }
    taken = notify.Notifier.take(environment)
    assert taken is not None
    assert (taken.address, taken.watchdog) == ("/run/systemd/notify", 3.0)
    assert environment == {"OTHER": "1"}


@pytest.mark.parametrize("address", ["", "/", "@", "relative", "vsock:2:1234"])
def test_an_address_of_an_unknown_kind_is_none(address: str) -> None:
    assert notify.Notifier.take({"NOTIFY_SOCKET": address}) is None


@pytest.mark.parametrize("other", [{"WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "often"}])
def test_a_watchdog_for_another_process_is_none(other: dict[str, str]) -> None:
    taken = notify.Notifier.take({"NOTIFY_SOCKET": "/s", "WATCHDOG_USEC": "1000000", **other})
    assert taken is not None
    assert taken.watchdog == 0
    assert taken.next_ping() == 0


def test_the_watchdog_is_told_twice_in_its_interval(receiver: int, tmp_path: Path) -> None:
    notifier = notify.Notifier(str(tmp_path / "notify"), watchdog=20.0)
    notifier.ping()
    notifier.ping()
    assert notify.receive(receiver) == {"WATCHDOG": "1"}
    assert notify.receive(receiver) is None
    assert 9 < notifier.next_ping() - time.monotonic() <= 10


def test_hostile_messages_are_only_odd_ones(receiver: int, tmp_path: Path) -> None:
    sent = [b"", b"\n\n==\n=x", b"READY", b"\xff=1\nREADY=\xff\nSTATUS=ok", b"X=" + b"y" * 100_000]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        for data in sent:
            sender.sendto(data, str(tmp_path / "notify"))
    got = [notify.receive(receiver) for _ in sent]
    assert got[:4] == [{}, {}, {}, {"STATUS": "ok"}]
    assert got[4] is not None
    assert len(got[4]["X"]) <= notify.LARGEST


def test_descriptors_that_come_along_are_not_taken_in(receiver: int, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(str(tmp_path / "notify"))
        socket.send_fds(sender, [b"FDSTORE=1"], [writing])
    os.close(writing)
    before = os.listdir("/proc/self/fd")
    assert notify.receive(receiver) == {"FDSTORE": "1"}
    assert os.listdir("/proc/self/fd") == before
    assert os.read(reading, 1) == b""  # nobody has the other end any more
    os.close(reading)


def test_bind_works_where_the_path_is_longer_than_an_address(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    fd = os.open(deep, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for _ in range(2):  # the second replaces what the first has left
            os.close(notify.bind(fd, "notify"))
        assert (deep / "notify").stat().st_mode & 0o777 == 0o666
    finally:
        os.close(fd)
