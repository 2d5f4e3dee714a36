"""What the parent on the host and a process in the pod tell each other, over one SOCK_SEQPACKET socket.

A message is one JSON array: a word and its arguments; descriptors ride along. Words of the parent to PID 1:
`mounts` (descriptors for the apps in order), `go` (the network is up). Words of PID 1: `is APP USER GROUP
HOME` for each app whose user was a name, `built`, after which the end of its socket says that it has become
the stub, or `failed TEXT HINT`. An app's process sends `terminal` with the master side of its terminal.
"""

from __future__ import annotations

import struct

from appc import jsonfield
from linux.bare import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from socket import socket as Socket
    from typing import Any

_LARGEST = 1 << 16
_MOST_FDS = 250  # SCM_MAX_FD is 253
_ANCILLARY = socket.CMSG_SPACE(4 * 253)
_MSG_CMSG_CLOEXEC = 0x40000000


def pair() -> tuple[Socket, Socket]:
    """A connected pair, close-on-exec; they have to be closed by hand."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)


def send(to: Socket, *words: object, fds: tuple[int, ...] = ()) -> None:
    """Send one message. More descriptors than one message carries are sent ahead in messages of their own."""
    while len(fds) > _MOST_FDS:
        _send(to, ("more",), fds[:_MOST_FDS])
        fds = fds[_MOST_FDS:]
    _send(to, words, fds)


def _send(to: Socket, words: tuple[object, ...], fds: tuple[int, ...]) -> None:
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))] if fds else []
    to.sendmsg([jsonfield.encode(words)[:_LARGEST]], ancillary)


class Message:
    """A message received: its words and its descriptors."""

    __slots__ = ("fds", "words")

    def __init__(self, words: list[Any], fds: list[int]) -> None:
        self.words = words
        self.fds = fds


def _anything(value: object) -> Any:
    return value


def receive(source: Socket) -> Message | None:
    """The next message; None when the other side is gone."""
    fds: list[int] = []
    while True:
        try:
            data, ancillary, _, _ = source.recvmsg(_LARGEST, _ANCILLARY, _MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            # It ended with something of ours unread: told once, and first; what it said comes after.
            continue
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                count = len(content) // 4
                fds += struct.unpack(f"{count}i", content[: 4 * count])
        if not data:
            return None
        words = list(jsonfield.listed(_anything)(jsonfield.parse(data)))
        if words[0] != "more":
            return Message(words, fds)
