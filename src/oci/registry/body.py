"""What requests carry: bytes, or a part of a file (the `Body` of `appc.http.client`)."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PIECE = 256 << 10


class Bytes:
    """A small body."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def chunks(self) -> Iterator[bytes]:
        """All of it."""
        yield self._data


class Part:
    """`size` bytes of the open file `fd` from `offset` on. `progress(count)` is told what went out."""

    def __init__(
        self, fd: int, offset: int, size: int, progress: Callable[[int], None] = lambda count: None
    ) -> None:
        self._fd = fd
        self._offset = offset
        self._progress = progress
        self.size = size

    def chunks(self) -> Iterator[bytes]:
        """The bytes, in pieces."""
        at, end = self._offset, self._offset + self.size
        while at < end and (data := os.pread(self._fd, min(_PIECE, end - at), at)):
            yield data
            at += len(data)
            self._progress(len(data))
