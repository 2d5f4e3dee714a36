"""Many requests in one send, an acknowledgement for each; the first refusal is raised under its name."""

from __future__ import annotations

from linux.netlink import wire
from linux.netlink.socket import error_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from linux.netlink.socket import Socket

# Within any send buffer, and its acknowledgements within any receive buffer.
_BYTES_AT_ONCE = 32 << 10
_REQUESTS_AT_ONCE = 64


class Batch:
    """Requests for one socket, sent together by `commit`.

    The kernel works them off in order and does not stop at one that fails, so a batch is not a transaction:
    who needs one must be able to undo every request by name.
    """

    __slots__ = ("_requests", "_socket")

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._requests: list[wire.Request] = []

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, *requests: wire.Request) -> None:
        self._requests.extend(requests)

    def commit(self) -> list[wire.Message | None]:
        """Send everything; return for each request the message it was answered with (NLM_F_ECHO), or None.

        Raises the OSError of the first request that failed. The requests after it in the same 64 have been
        tried by the kernel all the same; those beyond are not sent. The batch is empty afterwards, and can be
        used again.
        """
        requests, self._requests = self._requests, []
        answers: list[wire.Message | None] = []
        start = 0
        while start < len(requests):
            end, size = start, 0
            while end < len(requests) and end - start < _REQUESTS_AT_ONCE and size < _BYTES_AT_ONCE:
                size += len(requests[end].body) + 16
                end += 1
            answers += self._exchange(requests[start:end])
            start = end
        return answers

    def _exchange(self, requests: list[wire.Request]) -> list[wire.Message | None]:
        by_sequence: dict[int, int] = {}
        data = bytearray()
        for index, request in enumerate(requests):
            sequence = self._socket.next_sequence()
            by_sequence[sequence] = index
            data += wire.encode(request, sequence, wire.ACK)
        self._socket.send(bytes(data))
        answers: list[wire.Message | None] = [None] * len(requests)
        failures: dict[int, OSError] = {}
        while by_sequence:
            for message in wire.messages(self._socket.receive()):
                index = by_sequence.get(message.sequence, -1)
                if index < 0:
                    continue
                if message.kind >= wire.FIRST_OF_FAMILY:
                    answers[index] = message
                elif message.kind == wire.ERROR:
                    del by_sequence[message.sequence]
                    failure = error_of(message, requests[index])
                    if failure is not None:
                        failures[index] = failure
        if failures:
            raise failures[min(failures)]
        return answers


def commit(socket: Socket, *requests: wire.Request) -> list[wire.Message | None]:
    """Send `requests` together, as `Batch.commit` does."""
    batch = Batch(socket)
    batch.add(*requests)
    return batch.commit()
