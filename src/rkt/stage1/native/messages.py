"""What the pod's PID 1 and the parent on the host tell each other, over one SOCK_SEQPACKET socket.

A message is one JSON array: a word and its arguments; descriptors ride along. Words of the parent: `mounts`
(descriptors for the apps in order), `go` (the network is up), `stop`, `kill`. Words of PID 1: `ready` (the
apps run), `started NAME`, `exited NAME CODE`, `failed TEXT HINT`. A `started` comes from the app's own
process, so that the kernel attaches the process ID as the host sees it.
"""

from __future__ import annotations

import array
import json
import socket
import struct
from typing import Any

_LARGEST = 1 << 16
_MOST_FDS = 250  # SCM_MAX_FD is 253
_ANCILLARY = socket.CMSG_SPACE(4 * 253) + socket.CMSG_SPACE(12)


def pair() -> tuple[socket.socket, socket.socket]:
    """A connected pair: the parent's end, which is told who sends, and PID 1's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    return ours, theirs


def send(to: socket.socket, *words: object, fds: tuple[int, ...] = ()) -> None:
    """Send one message. More descriptors than one message carries are sent ahead in messages of their own."""
    while len(fds) > _MOST_FDS:
        _send(to, ("more",), fds[:_MOST_FDS])
        fds = fds[_MOST_FDS:]
    _send(to, words, fds)


def _send(to: socket.socket, words: tuple[object, ...], fds: tuple[int, ...]) -> None:
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    to.sendmsg([json.dumps(words).encode()[:_LARGEST]], ancillary)


class Message:
    """A message received: its words, its descriptors, and the sender's process ID (0 if it was not told)."""

    __slots__ = ("fds", "pid", "words")

    def __init__(self, words: list[Any], fds: list[int], pid: int) -> None:
        self.words = words
        self.fds = fds
        self.pid = pid


def receive(source: socket.socket) -> Message | None:
    """The next message; None when the other side is gone."""
    fds: list[int] = []
    while True:
        try:
            data, ancillary, _, _ = source.recvmsg(_LARGEST, _ANCILLARY)
        except ConnectionResetError:
            return None
        pid = 0
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                whole = content[: len(content) // 4 * 4]
                fds += array.array("i", whole)
            elif level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                (pid, _, _) = struct.unpack("iii", content[:12])
        if not data:
            return None
        words = json.loads(data)
        if words[0] != "more":
            return Message(words, fds, pid)
