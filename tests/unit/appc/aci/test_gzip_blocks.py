"""gzip in blocks: an ordinary member, the same for whatever pieces it comes in, on many processors or one."""

from __future__ import annotations

import gzip
import os
import random
import shutil
import subprocess
import zlib

import pytest

from appc.aci.gzip_blocks import GzipBlocks

BLOCK = 256 << 10


def compressed(data: bytes, piece: int, threads: int) -> bytes:
    z = GzipBlocks()
    z._threads = threads
    return b"".join(z.compress(data[at : at + piece]) for at in range(0, len(data), piece)) + z.flush()


def text(size: int) -> bytes:
    source = random.Random(size)
    words = [source.randbytes(source.randrange(1, 12)) for _ in range(500)]
    made = b""
    while len(made) < size:
        made += b"".join(source.choices(words, k=5000))
    return made[:size]


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 17, 2_000_000])
def test_it_is_read_by_others_and_depends_on_the_data_alone(size: int) -> None:
    data = text(size)
    made = compressed(data, 1 << 20, 1)
    assert gzip.decompress(made) == data
    assert {
        compressed(data, piece, threads) for piece in (7919, BLOCK, 1 << 20) for threads in (1, 2, 5)
    } == {made}
    if shutil.which("gzip"):
        assert subprocess.run(["gzip", "-dc"], input=made, capture_output=True, check=True).stdout == data
    z = zlib.decompressobj(16 + zlib.MAX_WBITS)
    assert z.decompress(made) == data
    assert z.eof
    assert z.unused_data == b""


def test_blocks_cost_little() -> None:
    data = text(4_000_000)
    assert len(compressed(data, 1 << 20, 2)) < 1.01 * len(gzip.compress(data, 6))


def test_no_thread_is_left() -> None:
    before = len(os.listdir("/proc/self/task"))
    compressed(text(2_000_000), 1 << 20, 4)
    left = before + 1
    for _ in range(100_000):  # the kernel takes a moment to bury those that have ended
        left = len(os.listdir("/proc/self/task"))
        if left == before:
            break
        os.sched_yield()
    assert left == before
