"""A netlink socket: belongs to the network namespace in which it was opened, for as long as it lives."""

from __future__ import annotations

import errno
import os
from _socket import (
    AF_NETLINK,
    MSG_DONTWAIT,
    MSG_TRUNC,
    SO_RCVBUF,
    SO_SNDBUF,
    SOCK_CLOEXEC,
    SOCK_RAW,
    SOL_SOCKET,
)
from _socket import socket as _Socket

from linux.netlink import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

ROUTE = 0
NETFILTER = 12

_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_NETLINK_GET_STRICT_CHK = 12
_SO_RCVBUFFORCE = 33
_SO_SNDBUFFORCE = 32
# An acknowledgement costs the receive buffer about 1 KiB whatever its size: 208 KiB, the default, hold 200.
_RECEIVE_BUFFER = 4 << 20
_DATAGRAM = 1 << 16  # bytes; from twice that on, malloc would map and unmap memory for each
_DUMP_ATTEMPTS = 10
# The extended acknowledgement (`enum nlmsgerr_attrs`).
_MESSAGE = 1


class Socket:
    """A netlink socket of one protocol (ROUTE or NETFILTER) in the caller's network namespace.

    A context manager. Every method raises OSError whose text names the request that the kernel refused.
    """

    __slots__ = ("_sequence", "_socket", "protocol")

    def __init__(self, protocol: int = ROUTE) -> None:
        self.protocol = protocol
        self._sequence = 0
        # Not the `socket` module: its enums alone would cost a plugin call half of its time.
        self._socket = _Socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol)
        try:
            self._socket.bind((0, 0))
            for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
            self._grow(_SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def next_sequence(self) -> int:
        """A number that no earlier request of this socket had; never 0, which the kernel uses itself."""
        self._sequence = self._sequence % 0x7FFFFFFF + 1
        return self._sequence

    def send(self, data: bytes) -> None:
        """Hand `data`, any number of requests, to the kernel, which has worked them off when this returns."""
        try:
            self._socket.send(data)
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            # A datagram must fit the send buffer: only transactions with thousands of elements do not.
            self._grow(_SO_SNDBUFFORCE, 2 * len(data) + 4096)
            self._socket.send(data)

    def receive(self, *, wait: bool = True) -> bytes:
        """The next datagram of the kernel; b"" when there is none and `wait` is false.

        OSError ENOBUFS when the kernel had more to say than the buffer holds. What other processes send is
        dropped: netlink lets root's send to any port.
        """
        while True:
            try:
                data, _, flags, sender = self._socket.recvmsg(_DATAGRAM, 0, 0 if wait else MSG_DONTWAIT)
            except BlockingIOError:
                return b""
            if flags & MSG_TRUNC:
                raise OSError(errno.ENOBUFS, f"netlink: a message of more than {_DATAGRAM} bytes")
            if sender[0] == 0:
                return data

    def request(self, request: wire.Request) -> list[wire.Message]:
        """Send one request and return its answer: what was asked for, without the acknowledgement."""
        sequence = self.next_sequence()
        self.send(wire.encode(request, sequence, wire.ACK))
        answers: list[wire.Message] = []
        while True:
            for message in wire.messages(self.receive()):
                if message.sequence != sequence:
                    continue
                if message.kind != wire.ERROR:
                    answers.append(message)
                    continue
                failure = error_of(message, request)
                if failure is not None:
                    raise failure
                return answers

    def ask(self, request: wire.Request) -> wire.Message | None:
        """The one message that answers `request`; None when the kernel says an error that it tolerates.

        As `request`, but for a question alone: the answer is all that is sent and waited for.
        """
        sequence = self.next_sequence()
        self.send(wire.encode(request, sequence))
        while True:
            for message in wire.messages(self.receive()):
                if message.sequence != sequence:
                    continue
                if message.kind != wire.ERROR:
                    return message
                failure = error_of(message, request)
                if failure is not None:
                    raise failure
                return None

    def dump(self, request: wire.Request) -> list[wire.Message]:
        """Everything of a kind, such as all links.

        Asked again when the kernel says that it changed meanwhile (NLM_F_DUMP_INTR): a half-old list would
        show links twice or not at all. OSError EAGAIN after ten attempts.
        """
        for _ in range(_DUMP_ATTEMPTS):
            answers = self._dump_once(request)
            if answers is not None:
                return answers
        raise OSError(errno.EAGAIN, f"{request.what}: changed during each of {_DUMP_ATTEMPTS} readings")

    def _dump_once(self, request: wire.Request) -> list[wire.Message] | None:
        sequence = self.next_sequence()
        self.send(wire.encode(request, sequence, wire.DUMP))
        answers: list[wire.Message] = []
        torn = False
        while True:
            for message in wire.messages(self.receive()):
                if message.sequence != sequence:
                    continue
                torn = torn or bool(message.flags & wire.DUMP_INTERRUPTED)
                if message.kind == wire.ERROR or (message.kind == wire.DONE and len(message.body) >= 4):
                    failure = error_of(message, request)
                    if failure is not None:
                        raise failure
                if message.kind in (wire.ERROR, wire.DONE):
                    return None if torn else answers
                answers.append(message)

    def _grow(self, option: int, size: int) -> None:
        try:
            self._socket.setsockopt(SOL_SOCKET, option, size)
        except PermissionError:
            # Not root in the first user namespace: what the system allows everybody has to do.
            self._socket.setsockopt(SOL_SOCKET, SO_RCVBUF if option == _SO_RCVBUFFORCE else SO_SNDBUF, size)


def open_in(netns: str | int, *protocols: int) -> tuple[Socket, ...]:
    """Sockets of `protocols` in the network namespace at the path, or behind the descriptor, `netns`.

    The calling thread is in that namespace only while they are opened. Needs CAP_SYS_ADMIN over the
    namespace's user namespace. Raises OSError, or ValueError when it is no namespace; when the way back fails
    the process ends, as the rest of its work would hit the wrong network.
    """
    from linux import namespaces

    sockets: list[Socket] = []
    try:
        with namespaces.inside(netns):
            sockets.extend(Socket(protocol) for protocol in protocols)
    except BaseException:
        for opened in sockets:
            opened.close()
        raise
    return tuple(sockets)


def error_of(message: wire.Message, request: wire.Request) -> OSError | None:
    """The failure that an acknowledgement reports, or None for success or what `request` tolerates."""
    code = -wire.read_i32(message.body)
    if code == 0 or code in request.tolerated:
        return None
    said = _kernel_text(message)
    return OSError(code, f"{request.what}: {os.strerror(code)}{f' ({said})' if said else ''}")


def _kernel_text(message: wire.Message) -> str:
    """The sentence the kernel added (NLMSGERR_ATTR_MSG), if any."""
    if not message.flags & wire.ACK_TLVS:
        return ""
    # The code, the header of the request, then, unless capped, its body.
    offset = 20
    if not message.flags & wire.CAPPED and message.body[0:4] != b"\0\0\0\0":
        offset = 4 + ((wire.read_u32(message.body[4:8]) + 3) & ~3)
    return wire.read_text(wire.parse(message.body, offset).get(_MESSAGE, b""))
