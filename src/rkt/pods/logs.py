"""Reading the logs of a pod: the files that its stage 1 wrote, oldest line first, in order of time.

The files lie in the pod's directory, which only root can write; the form of a line is described where it is
written (`rkt.stage1.native.logs`).
"""

from __future__ import annotations

import heapq
import os

from linux.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rkt.pods.pod import Pod

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK = 1 << 16
_OLDEST = 9


class Line(NamedTuple):
    """A line of output. `time` is RFC 3339 in UTC; `ended` is False for a piece of a longer line."""

    time: str
    app: str
    stream: str
    ended: bool
    text: bytes


class Follower:
    """The lines of one app, those written since the last call of `read` too, across rotations."""

    def __init__(self, pod: Pod, app: str) -> None:
        self._pod = pod
        self._app = app
        self._rest = b""
        self._fd = -1
        self._waiting = [f"logs/{app}.{number}" for number in range(_OLDEST, 0, -1)]

    def read(self) -> Iterator[Line]:
        """Every whole line that is there and was not given yet."""
        for name in self._waiting:
            fd = self._open(name)
            if fd >= 0:
                yield from self._lines(fd)
                os.close(fd)
        self._waiting = []
        if self._fd < 0:
            self._fd = self._open(f"logs/{self._app}")
        while self._fd >= 0:
            yield from self._lines(self._fd)
            following = self._open(f"logs/{self._app}")
            if following >= 0 and os.path.sameopenfile(following, self._fd):
                os.close(following)
                return
            # It was rotated: what was written between the last read and the rename is still in the old one.
            yield from self._lines(self._fd)
            os.close(self._fd)
            self._fd = following

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self, name: str) -> int:
        try:
            return os.open(name, _FLAGS, dir_fd=self._pod.fd)
        except FileNotFoundError:
            return -1

    def _lines(self, fd: int) -> Iterator[Line]:
        while data := os.read(fd, _CHUNK):
            *whole, self._rest = (self._rest + data).split(b"\n")
            for line in whole:
                fields = line.split(b" ", 3)
                if len(fields) == 4:
                    time, stream, tag, text = fields
                    yield Line(time.decode("ascii", "replace"), self._app, stream.decode(), tag == b"F", text)


def merged(followers: list[Follower]) -> Iterator[Line]:
    """The lines of several apps in order of time."""
    yield from heapq.merge(*(follower.read() for follower in followers), key=lambda line: line.time)
