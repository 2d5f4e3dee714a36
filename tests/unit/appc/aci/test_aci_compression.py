"""Compressions: found by magic, many members, bombs, damage, what may follow behind the end."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import subprocess
import sys
import zlib
from collections.abc import Callable

import pytest
import zstandard

from appc.aci import compression
from appc.aci.errors import InvalidArchive, LimitExceeded, UnknownFormat
from appc.aci.limits import DEFAULT, Limits
from fixtures import tars

PLAIN = tars.image(
    tars.file(b"rootfs/random", os.urandom(300_000)), tars.file(b"rootfs/zeros", bytes(3_000_000))
)
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    compression.GZIP: gzip.compress,
    compression.BZIP2: bz2.compress,
    compression.XZ: lzma.compress,
    compression.ZSTD: lambda data: zstandard.ZstdCompressor().compress(data),
}
KINDS = sorted(COMPRESS)


def inflated(data: bytes, limits: Limits = DEFAULT) -> bytes:
    return b"".join(compression.inflate(io.BytesIO(data), limits=limits))


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(kind: str) -> None:
    data = COMPRESS[kind](PLAIN)
    assert compression.detect(data[:512]) == kind
    assert inflated(data) == PLAIN


@pytest.mark.parametrize("kind", [*KINDS, compression.NONE])
def test_deflater_is_read_by_inflate_and_says_the_same_twice(kind: str) -> None:
    def deflated() -> bytes:
        compress, flush = compression.deflater(kind)
        return compress(PLAIN[:1000]) + compress(PLAIN[1000:]) + flush()

    data = deflated()
    assert inflated(data) == PLAIN
    assert deflated() == data


def test_plain() -> None:
    assert compression.detect(PLAIN[:512]) == compression.NONE
    assert inflated(PLAIN) == PLAIN


@pytest.mark.parametrize("data", [b"", b"{}", b"PK\x03\x04" + bytes(600), bytes(1024)])
def test_unknown(data: bytes) -> None:
    with pytest.raises(UnknownFormat):
        inflated(data)


@pytest.mark.parametrize("kind", KINDS)
def test_several_members(kind: str) -> None:
    data = b"".join(COMPRESS[kind](PLAIN[at : at + 700_000]) for at in range(0, len(PLAIN), 700_000))
    assert inflated(data) == PLAIN


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_may_follow_and_nothing_else(kind: str) -> None:
    data = COMPRESS[kind](PLAIN)
    assert inflated(data + bytes(4000)) == PLAIN
    for garbage in (b"x", b"garbage" * 100, bytes(300_000) + b"x", data[:1], PLAIN):
        with pytest.raises(InvalidArchive):
            inflated(data + garbage)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [0.1, 0.5, 0.999])
def test_cut_short(kind: str, part: float) -> None:
    data = COMPRESS[kind](PLAIN)
    with pytest.raises(InvalidArchive):
        inflated(data[: int(len(data) * part)])


@pytest.mark.parametrize("kind", KINDS)
def test_damaged(kind: str) -> None:
    data = bytearray(COMPRESS[kind](PLAIN))
    data[len(data) // 2 : len(data) // 2 + 8] = b"damaged!"
    try:
        found = inflated(bytes(data))
    except InvalidArchive:
        return
    # zstd's own checksum is off by default: then the image's hash tells
    assert kind == compression.ZSTD
    assert found != PLAIN


@pytest.mark.parametrize("kind", KINDS)
def test_a_bomb_stops_at_the_ratio(kind: str) -> None:
    data = COMPRESS[kind](bytes(40 << 20))
    with pytest.raises(LimitExceeded, match="limit of 100 to 1"):
        inflated(data, Limits(ratio_grace=1 << 20))


def test_a_bomb_stops_at_the_size() -> None:
    with pytest.raises(LimitExceeded, match="more than 1000000 bytes"):
        inflated(gzip.compress(os.urandom(1_000_001)), Limits(size=1_000_000))


@pytest.mark.parametrize("kind", KINDS)
def test_empty_members_by_the_thousand(kind: str) -> None:
    data = COMPRESS[kind](b"") * 5000
    with pytest.raises(LimitExceeded, match="members"):
        inflated(data)


def test_xz_that_needs_too_much_memory() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 256 << 20}]
    data = lzma.compress(b"x", filters=filters)
    with pytest.raises(LimitExceeded, match="memory"):
        inflated(data)


def test_zstd_that_needs_too_much_memory() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=28)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = compressor.compress(b"x" * 1000) + compressor.flush()
    with pytest.raises(InvalidArchive):
        inflated(data, Limits(memory=1 << 20))


def test_memory_stays_flat() -> None:
    """320 MiB of zeros in each format: at most 64 MiB for the process that refuses them."""
    code = """
import io, sys
from appc.aci import compression
from appc.aci.errors import LimitExceeded
try:
    for chunk in compression.inflate(sys.stdin.buffer):
        pass
except LimitExceeded:
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
    for kind, compress in COMPRESS.items():
        with open_temporary(compress(bytes(32 << 20)) * 10) as file:
            done = subprocess.run(
                [sys.executable, "-c", code],
                stdin=file,
                capture_output=True,
                check=True,
                env={"PYTHONPATH": os.pathsep.join(sys.path)},
            )
        assert done.stdout, f"{kind}: was not refused"
        assert int(done.stdout) < 64 << 10, f"{kind}: {done.stdout}"


def open_temporary(data: bytes) -> io.BufferedRandom:
    import tempfile

    file = tempfile.TemporaryFile()  # noqa: SIM115 (the caller's to close)
    file.write(data)
    file.seek(0)
    return file  # type: ignore[return-value]


def test_the_zstd_program_in_place_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    assert not compression.zstd_is_built_in()
    with open_temporary(COMPRESS[compression.ZSTD](PLAIN)) as file:
        assert b"".join(compression.inflate(file)) == PLAIN
    with open_temporary(COMPRESS[compression.ZSTD](PLAIN)[:-5000]) as file, pytest.raises(InvalidArchive):
        list(compression.inflate(file))
    with open_temporary(COMPRESS[compression.ZSTD](PLAIN)) as file:
        chunks = compression.inflate(file)
        next(chunks)
        chunks.close()  # type: ignore[attr-defined]


def test_gzip_header_extras() -> None:
    """File name, comment, extra field and time, as old tools write them."""
    body = zlib.compressobj(wbits=-15)
    raw = body.compress(PLAIN) + body.flush()
    head = (
        b"\x1f\x8b\x08\x1c" + b"\x01\x02\x03\x04" + b"\x00\x03" + b"\x04\x00abcd" + b"name\0" + b"comment\0"
    )
    tail = zlib.crc32(PLAIN).to_bytes(4, "little") + len(PLAIN).to_bytes(4, "little")
    assert inflated(head + raw + tail) == PLAIN
