"""An nftables transaction: all its requests take effect at one moment, or none does."""

from __future__ import annotations

import errno

from linux.netlink import wire
from linux.netlink.nftables.objects import MESSAGE
from linux.netlink.socket import error_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from linux.netlink.socket import Socket

_BEGIN, _END = 16, 17
_SUBSYSTEM = 10
_GENERATION = 1


class Transaction:
    """Requests made by `objects`, handed to the kernel together by `commit`."""

    __slots__ = ("_requests",)

    def __init__(self, *requests: wire.Request) -> None:
        self._requests = list(requests)

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, *requests: wire.Request) -> None:
        self._requests.extend(requests)

    def commit(self, socket: Socket, *, generation: int | None = None) -> None:
        """Send everything over `socket`, one of NETFILTER. Nothing to do is no call at all.

        Raises the OSError of the first request that was refused; then nothing at all has changed. With
        `generation`, of `listing.generation`, ERESTART when the rules are not those that were looked at.
        """
        requests, self._requests = self._requests, []
        if not requests:
            return
        begin_body = MESSAGE.pack(0, 0, _SUBSYSTEM)
        if generation is not None:
            begin_body += wire.be32(_GENERATION, generation)
        begin = wire.Request(_BEGIN, 0, begin_body, "nftables transaction")
        end = wire.Request(_END, 0, MESSAGE.pack(0, 0, _SUBSYSTEM), "nftables transaction")
        by_sequence: dict[int, int] = {}
        data = bytearray()
        everything = (begin, *requests, end)
        for index, request in enumerate(everything):
            sequence = socket.next_sequence()
            by_sequence[sequence] = index
            # Failures are always reported; an answer from the last one tells "done" from "not heard".
            data += wire.encode(request, sequence, wire.ACK if index == len(requests) else 0)
        socket.send(bytes(data))
        self._judge(socket, everything, by_sequence)

    def _judge(
        self, socket: Socket, everything: tuple[wire.Request, ...], by_sequence: dict[int, int]
    ) -> None:
        failures: dict[int, OSError] = {}
        answered = False
        # The kernel has queued all it will say before `send` returned.
        while answer := socket.receive(wait=False):
            for message in wire.messages(answer):
                index = by_sequence.get(message.sequence)
                if index is None or message.kind != wire.ERROR:
                    continue
                answered = True
                failure = error_of(message, everything[index])
                if failure is not None:
                    failures.setdefault(index, failure)
        if failures:
            raise failures[min(failures)]
        if not answered:
            raise OSError(errno.EIO, "nftables transaction: the kernel did not answer")
