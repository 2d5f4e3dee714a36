"""Writing gzip on all processors: blocks of fixed size, each compressed by itself, in one ordinary member.

As pigz does it: each block knows the last 32 KiB before it and ends at a byte, so that blocks can be made
at the same time and stand behind each other. Where the blocks begin depends on nothing but the data: the
same input gives the same bytes on any machine.
"""

from __future__ import annotations

import os
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _thread
    from collections.abc import Callable, Sequence

_BLOCK = 256 << 10
_WINDOW = 32 << 10
#: Blocks for each processor at a time: with more, fewer processors wait for the slowest one.
_AT_ONCE = 4
_LEVEL = 6
#: No name, no time, written on Unix (RFC 1952).
_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\x03"
#: An empty last block, fixed Huffman codes.
_LAST = b"\x03\x00"


class GzipBlocks:
    """`compress` takes data and gives what is ready, `flush` gives the rest."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._window = b""
        self._crc = self._size = 0
        self._begun = False
        self._threads = len(os.sched_getaffinity(0))

    def compress(self, data: bytes) -> bytes:
        self._crc = zlib.crc32(data, self._crc)
        self._size += len(data)
        self._pending += data
        whole = len(self._pending) // _BLOCK
        if whole < self._threads * _AT_ONCE:
            return b""
        return self._taken(whole * _BLOCK)

    def flush(self) -> bytes:
        rest = self._taken(len(self._pending))
        tail = _LAST + self._crc.to_bytes(4, "little") + (self._size & 0xFFFFFFFF).to_bytes(4, "little")
        return rest + self._head() + tail

    def _head(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return _HEADER

    def _taken(self, count: int) -> bytes:
        data = bytes(self._pending[:count])
        del self._pending[:count]
        jobs: list[tuple[bytes, bytes]] = []
        for place in range(0, len(data), _BLOCK):
            jobs.append((self._window, data[place : place + _BLOCK]))
            self._window = data[max(0, place + _BLOCK - _WINDOW) : place + _BLOCK]
        return self._head() + b"".join(_all(jobs, self._threads))


def _deflated(window: bytes, block: bytes) -> bytes:
    z = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, zdict=window) if window else _plain()
    return z.compress(block) + z.flush(zlib.Z_SYNC_FLUSH)


def _plain() -> zlib._Compress:
    return zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)


def _all(jobs: Sequence[tuple[bytes, bytes]], threads: int) -> list[bytes]:
    """The blocks, compressed. All threads have ended when this returns: whoever forks later has none."""
    if threads < 2 or len(jobs) < 2:
        return [_deflated(*job) for job in jobs]
    import _thread

    made: list[bytes] = [b""] * len(jobs)
    failed: list[BaseException] = []
    places = iter(range(len(jobs)))
    taking = _thread.allocate_lock()

    def work() -> None:
        while True:
            with taking:
                place = next(places, -1)
            if place < 0 or failed:
                return
            try:
                made[place] = _deflated(*jobs[place])
            except BaseException as error:  # noqa: BLE001 (raised below, in the thread that asked)
                failed.append(error)

    ends = [_started(work) for _ in range(min(threads, len(jobs)) - 1)]
    work()
    for end in ends:
        end.acquire()
    if failed:
        raise failed[0]
    return made


def _started(work: Callable[[], None]) -> _thread.LockType:
    """A thread that does `work`; the lock can be acquired when it has ended. (`threading` costs 4 ms.)"""
    import _thread

    end = _thread.allocate_lock()
    end.acquire()

    def run() -> None:
        try:
            work()
        finally:
            end.release()

    _thread.start_new_thread(run, ())
    return end
