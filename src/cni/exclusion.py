"""Who may run at once: one operation for a container, any number for different ones, GC alone.

The specification asks this of runtimes (section "Lifecycle and ordering"). One file in /run is the lock for
all of them on the node: a flock on it, shared or exclusive, keeps GC apart; a lock on one byte of it, at a
place that the container's ID gives, keeps the operations of one container apart. So no file has to be made,
or to be collected, for a container. Both kinds end with the process.
"""

from __future__ import annotations

import fcntl
import os

TYPE_CHECKING = False  # not from typing: start-up time counts here
if TYPE_CHECKING:
    from types import TracebackType

PATH = "/run/rkt-platform/network.lock"
_PLACES = (1 << 62) - 1


class Exclusive:
    """``with Exclusive("CONTAINER-ID"):`` or, for GC, ``with Exclusive():``. Waits; OSError if it cannot."""

    __slots__ = ("_container_id", "_fd")

    def __init__(self, container_id: str = "") -> None:
        self._container_id = container_id
        self._fd = -1

    def __enter__(self) -> None:
        from linux.files import lock_file

        os.makedirs(os.path.dirname(PATH), mode=0o755, exist_ok=True)
        fd = lock_file(PATH, exclusive=not self._container_id)
        try:
            if self._container_id:
                _lock_byte(fd, self._container_id)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)
        self._fd = -1


def _lock_byte(fd: int, container_id: str) -> None:
    """An open file description lock (fcntl(2)): two of one process exclude each other, too."""
    from hashlib import sha512
    from struct import pack

    place = int.from_bytes(sha512(os.fsencode(container_id)).digest()[:8], "big") & _PLACES
    # struct flock: type, whence, start, length, pid (0 for this kind)
    fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, pack("hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0))
