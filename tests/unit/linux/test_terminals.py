"""linux.tty: pseudo terminals, raw mode, sizes."""

from __future__ import annotations

import fcntl
import os
import struct
import termios

import pytest

from linux import tty


def test_a_pair_carries_bytes_and_raw_mode_is_undone() -> None:
    master, slave, number = tty.open_pair()
    try:
        assert os.ttyname(slave) == f"/dev/pts/{number}"
        before = termios.tcgetattr(slave)
        with tty.raw(slave):
            os.write(slave, b"a\nb")
            assert os.read(master, 9) == b"a\nb"  # no carriage return is added
            os.write(master, b"\x03")
            assert os.read(slave, 9) == b"\x03"  # no signal, no line to wait for
        assert termios.tcgetattr(slave) == before
        with pytest.raises(KeyError), tty.raw(slave):
            raise KeyError
        assert termios.tcgetattr(slave) == before
    finally:
        os.close(master)
        os.close(slave)


def test_the_window_size_is_copied() -> None:
    first, second = tty.open_pair(), tty.open_pair()
    try:
        fcntl.ioctl(first[1], termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
        assert tty.copy_window_size(first[1], second[0])
        assert struct.unpack("HHHH", fcntl.ioctl(second[1], termios.TIOCGWINSZ, bytes(8)))[:2] == (33, 101)
        reading, writing = os.pipe()
        assert not tty.copy_window_size(reading, second[0])
        os.close(reading)
        os.close(writing)
    finally:
        for fd in (*first[:2], *second[:2]):
            os.close(fd)


def test_a_session_leader_gets_its_terminal() -> None:
    master, slave, _ = tty.open_pair()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setsid()
            tty.make_controlling(slave)
            os.close(os.open("/dev/tty", os.O_RDWR))
            code = 0
        finally:
            os._exit(code)
    os.close(slave)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(master)
