"""linux.process: forked functions, descriptors, pidfds and host programs."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from linux import process


def test_fork_and_wait_returns_the_childs_int() -> None:
    assert process.fork_and_wait(lambda: 7) == 7
    assert process.fork_and_wait(lambda: None) == 0
    assert process.fork_and_read(lambda: b"x" * 300_000) == b"x" * 300_000


def test_an_oserror_comes_back_whole(tmp_path: Path) -> None:
    def fails() -> int:
        os.rename(tmp_path / "missing", tmp_path / "new\udcff")
        return 0

    with pytest.raises(FileNotFoundError) as failed:
        process.fork_and_wait(fails)
    assert failed.value.filename == str(tmp_path / "missing")
    assert failed.value.filename2 == str(tmp_path / "new\udcff")


def test_other_exceptions_come_back_as_text() -> None:
    def value() -> int:
        raise ValueError("odd\0value")

    def other() -> int:
        raise KeyError("k")

    with pytest.raises(ValueError, match="odd\0value"):
        process.fork_and_wait(value)
    with pytest.raises(RuntimeError, match="'k'"):
        process.fork_and_wait(other)


def test_a_child_that_dies_or_exits_by_itself_is_told() -> None:
    with pytest.raises(RuntimeError, match="killed by signal 9"):
        process.fork_and_wait(lambda: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(RuntimeError, match="status 3"):
        process.fork_and_wait(lambda: os._exit(3))


def test_the_child_has_only_the_descriptors_passed(tmp_path: Path) -> None:
    held = os.open(tmp_path, os.O_RDONLY)
    passed = os.open(tmp_path, os.O_RDONLY)

    def count() -> int:
        os.fstat(passed)
        return sum(1 for name in os.listdir("/proc/self/fd") if int(name) > 2)

    try:
        # the passed one, the pipe to the parent, and that of the listing itself
        assert process.fork_and_wait(count, pass_fds=[passed]) == 3
    finally:
        os.close(held)
        os.close(passed)


def test_close_fds_without_close_range(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from linux import libc

    def missing(first: int, last: int = 0, flags: int = 0) -> None:
        raise OSError(38, "no close_range")

    fd = os.open(tmp_path, os.O_RDONLY)
    monkeypatch.setattr(libc, "close_range", missing)

    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        process.close_fds_from(3, keep=(writing,))
        os.write(writing, b"%d" % os.path.exists(f"/proc/self/fd/{fd}"))
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    assert os.read(reading, 9) == b"0"
    os.close(reading)
    os.close(fd)


def test_pidfd_signals_one_process_and_no_successor() -> None:
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    with process.Pidfd.open(child) as pidfd:
        assert not pidfd.wait(0)
        assert pidfd.send_signal(signal.SIGKILL)
        assert pidfd.wait(10)
        os.waitpid(child, 0)
        assert not pidfd.send_signal(signal.SIGKILL)


def test_start_time_names_a_process() -> None:
    assert process.start_time(os.getpid()) == process.start_time("self")
    with pytest.raises(ProcessLookupError):
        process.start_time(2**22 + 1)


def test_run_collects_and_times_out(tmp_path: Path) -> None:
    done = process.run(["sh", "-c", "cat; echo err >&2; env; exit 3"], input=b"in\n", timeout=10)
    assert (done.returncode, done.stderr) == (3, b"err\n")
    assert done.stdout.startswith(b"in\n")
    assert b"HOME" not in done.stdout
    start = time.monotonic()
    with pytest.raises(TimeoutError, match="sh"):
        process.run(["sh", "-c", "sleep 60 & wait"], timeout=0.2)
    assert time.monotonic() - start < 5
    with pytest.raises(FileNotFoundError):
        process.run(["no-such-program"], timeout=1)


def test_a_command_line_is_hidden_and_there_again() -> None:
    def shown() -> bytes:
        return Path("/proc/self/cmdline").read_bytes()

    before = shown()
    assert before.strip(b"\0")
    with process.hidden_command_line():
        assert not shown().strip(b"\0")
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(writing, shown() or b"\0")
            os._exit(0)
        os.waitpid(pid, 0)
    os.close(writing)
    with open(reading, "rb") as told:
        assert not told.read().strip(b"\0")
    assert shown() == before
