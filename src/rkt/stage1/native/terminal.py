"""The user's terminal joined to the pseudo terminal of an app: bytes both ways, and its size."""

from __future__ import annotations

import os

from linux import tty

_CHUNK = 4096


class Terminal:
    """A relay between the terminal at 0 and 1 and the `master` side of an app's.

    Neither side can hold up the other, or rkt: what one has not taken yet waits, and no more is read for it.
    """

    __slots__ = ("_raw", "_to_app", "_to_user", "ended", "master")

    def __init__(self, master: int) -> None:
        self.master = master
        self.ended = False
        self._to_app = b""
        self._to_user = b""
        os.set_blocking(master, False)
        self._raw = tty.raw(0)
        self._raw.__enter__()
        self.resize()

    def resize(self) -> None:
        """Give the app's terminal the size of the user's."""
        tty.copy_window_size(0, self.master)

    def wanted(self) -> dict[int, tuple[bool, bool]]:
        """By descriptor, whether it is to be waited for as readable and as writable."""
        wanted = {0: (not self._to_app and not self.ended, False)}
        wanted[1] = (False, bool(self._to_user))
        wanted[self.master] = (not self._to_user and not self.ended, bool(self._to_app))
        return wanted

    def handle(self, fd: int, *, readable: bool, writable: bool) -> None:
        """Move what can be moved, after poll(2) told about `fd`."""
        if fd == self.master:
            if writable:
                self._to_app = self._to_app[_write(fd, self._to_app) :]
            if readable and not self._to_user:
                self._to_user = self._read(fd)
        elif fd == 0:
            if readable and not self._to_app:
                self._to_app = self._read(fd)
        elif writable:
            self._to_user = self._to_user[_write(fd, self._to_user) :]

    def _read(self, fd: int) -> bytes:
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""  # EIO: the last process that held the app's side has ended
        if not data:
            self.ended = True
        return data

    def close(self) -> None:
        """Give the user what the app has still printed, and the terminal its old settings."""
        while True:
            while self._to_user:
                written = _write(1, self._to_user)
                if not written:
                    break
                self._to_user = self._to_user[written:]
            self._to_user = self._read(self.master)
            if not self._to_user:
                break
        self._raw.__exit__(None, None, None)
        os.close(self.master)


def _write(fd: int, data: bytes) -> int:
    try:
        return os.write(fd, data)
    except BlockingIOError:
        return 0
    except OSError:
        return len(data)  # nobody is there any more to read it
