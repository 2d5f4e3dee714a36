"""Layers without their compression: gzip, zstd, or none; an empty file is an empty layer."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager

from appc.aci import compression
from appc.aci.errors import InvalidArchive, UnknownFormat
from appc.aci.limits import DEFAULT, Limits
from oci.errors import DigestMismatch
from oci.types.digest import Digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

#: An archive without entries is nothing but zeros, and begins like no format at all.
_EMPTY = bytes(compression.PREFIX)


class OpenLayer:
    """A layer about to be read by another process; see `appc.aci.compression.Opened`."""

    def __init__(self, file: BinaryIO, limits: Limits = DEFAULT) -> None:
        prefix = compression.peek(file)
        kind = compression.detect(prefix)
        self.size = os.fstat(file.fileno()).st_size
        self._empty = self.size == 0
        if kind is None and prefix != _EMPTY and not self._empty:
            raise UnknownFormat(
                "a layer that is neither a tar archive nor compressed with gzip or zstd",
                hint="the image is damaged, or is no image",
            )
        self._file = file
        self._limits = limits
        self._kind = kind or compression.NONE
        # zstd without a library is a program that reads once: one for each time that we read
        again = self._kind == compression.ZSTD and not compression.zstd_is_built_in()
        self._opened = [compression.Opened(file, limits) for _ in range(2 if again else 1)] if kind else []

    def fds(self) -> tuple[int, ...]:
        """What the reading process must keep."""
        return tuple(one.fileno() for one in self._opened) or (self._file.fileno(),)

    def chunks(self, pass_: int = 0) -> Iterator[bytes]:
        """The plain bytes from the start; `pass_` counts how often they were read before (0 or 1)."""
        if self._empty:
            return iter(())
        if self._opened:
            return self._opened[min(pass_, len(self._opened) - 1)].chunks()
        return _zeros(self._file)

    def finish(self, *, passes: int) -> None:
        """All was read `passes` times: InvalidArchive if a helper program says that the data was damaged."""
        for one in self._opened[:passes]:
            one.finish()

    def close(self) -> None:
        """End the helper programs, if there are any. The caller's file stays open."""
        for one in self._opened:
            one.close()


def _zeros(file: BinaryIO) -> Iterator[bytes]:
    offset = 0
    while data := os.pread(file.fileno(), 1 << 20, offset):
        offset += len(data)
        yield data


class Tap:
    """Chunks on their way, hashed: `diff_id` when all have gone by."""

    def __init__(self, chunks: Iterator[bytes], digest: Digest | None = None) -> None:
        self._chunks = chunks
        self._hash = hashlib.sha256() if digest is None else digest.hasher()
        self._algorithm = "sha256" if digest is None else digest.algorithm
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._hash.update(chunk)
            self.size += len(chunk)
            yield chunk

    @property
    def diff_id(self) -> Digest:
        """The digest of what went by."""
        return Digest(f"{self._algorithm}:{self._hash.hexdigest()}")


def check_diff_id(expected: Digest | None, found: str, place: int) -> None:
    """DigestMismatch unless layer number `place` (from 0) is what the image's configuration says."""
    if expected is not None and expected != found:
        raise DigestMismatch(f"layer {place + 1}, uncompressed", str(expected), found)


@contextmanager
def plain_copy(
    file: BinaryIO, diff_id: Digest | None, *, limits: Limits = DEFAULT
) -> Iterator[tuple[BinaryIO, int, Digest]]:
    """``with plain_copy(…) as (file, size, diff_id)``: the layer uncompressed, in a file without a name."""
    from oci.members import unnamed_file

    opened = OpenLayer(file, limits)
    try:
        with unnamed_file() as copy:
            tap = Tap(opened.chunks(), diff_id)
            for chunk in tap:
                copy.write(chunk)
            opened.finish(passes=1)
            check_diff_id(diff_id, tap.diff_id, 0)
            copy.flush()
            copy.seek(0)
            yield copy, tap.size, tap.diff_id
    finally:
        opened.close()


def ended(chunks: Iterator[bytes]) -> None:
    """Read what is left; an archive reader has seen to it that these are zeros."""
    for chunk in chunks:
        if chunk.strip(b"\0"):
            raise InvalidArchive("data behind the end of the archive")
