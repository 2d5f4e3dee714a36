"""gzip in blocks on several threads: ordinary gzip, the same bytes on any machine, about as small."""

from __future__ import annotations

import gzip
import os
import random
import subprocess
import threading
import zlib

import pytest

from appc.aci import gzip_blocks
from appc.aci.gzip_blocks import GzipBlocks

BLOCK, WINDOW, LEVEL = 256 << 10, 32 << 10, 6


def text(size: int, seed: int = 1) -> bytes:
    """Data that repeats itself near and far, as files do."""
    chance = random.Random(seed)
    words = [chance.randbytes(chance.randrange(2, 12)) for _ in range(2000)]
    parts = [b" ".join(chance.choices(words, k=200)) for _ in range(size // 1500 + 1)]
    return b"".join(parts)[:size].ljust(size, b"\0")


def compressed(data: bytes, *, threads: int | None = None, piece: int = 1 << 20) -> bytes:
    deflater = GzipBlocks()
    if threads is not None:
        deflater._threads = threads
    parts = [deflater.compress(data[at : at + piece]) for at in range(0, len(data), piece)]
    return b"".join((*parts, deflater.flush()))


@pytest.mark.parametrize(
    "size", [0, 1, WINDOW, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 7 * BLOCK + 12_345, 30 * BLOCK]
)
def test_what_comes_out_is_one_ordinary_member(size: int) -> None:
    data = text(size)
    found = compressed(data)
    assert gzip.decompress(found) == data
    z = zlib.decompressobj(16 + zlib.MAX_WBITS)
    assert z.decompress(found) == data
    assert z.eof
    assert not z.unused_data
    program = subprocess.run(["gzip", "-dc"], input=found, capture_output=True, check=True)
    assert program.stdout == data


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("piece", [1000, BLOCK, 1 << 20, 1 << 30])
def test_threads_and_pieces_make_no_difference(threads: int, piece: int) -> None:
    data = text(9 * BLOCK + 77)
    assert compressed(data, threads=threads, piece=piece) == compressed(data, threads=1, piece=len(data))


def test_the_cuts_cost_less_than_one_percent() -> None:
    data = text(40 * BLOCK)
    assert len(compressed(data)) < 1.01 * len(zlib.compress(data, LEVEL))


def _count() -> int:
    return len(os.listdir("/proc/self/task"))


def _comes_down_to(number: int) -> bool:
    """A thread that has given back its last lock still has some instructions to go."""
    waiting = threading.Event()
    for _ in range(1000):
        if _count() <= number:
            return True
        waiting.wait(0.01)
    return False


def test_no_thread_is_left_between_two_pieces() -> None:
    """What forks in between (a cage, gpg) has a single thread."""
    before = _count()
    deflater = GzipBlocks()
    deflater._threads = 4
    deflater.compress(text(20 * BLOCK))
    assert _comes_down_to(before)


def test_a_failure_in_a_thread_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(window: bytes, block: bytes) -> bytes:
        raise MemoryError("no room")

    monkeypatch.setattr(gzip_blocks, "_deflated", broken)
    deflater = GzipBlocks()
    deflater._threads = 2
    with pytest.raises(MemoryError, match="no room"):
        deflater.compress(text(20 * BLOCK))
