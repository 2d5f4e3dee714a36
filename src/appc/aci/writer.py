"""Writing images: the same tree and manifest give the same bytes and the same image ID.

The manifest is the first member, so that reading it out of a large compressed image is instant (the reference
writes it last). It carries no time of its own: 1970, or the moment that the caller gives for all times.
"""

from __future__ import annotations

import hashlib
import os

from appc.aci import compression as compressions
from appc.aci import header, tar
from appc.aci.errors import shown
from appc.aci.layout import MANIFEST, ROOTFS
from appc.aci.limits import DEFAULT, Limits
from appc.aci.tar import Entry
from appc.errors import AppcError
from appc.types.image_id import ImageID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO

_PIECE = 1 << 20


class Writer:
    """An archive being written to the binary file `out`: collected into large pieces, hashed, compressed."""

    def __init__(self, out: BinaryIO, compression: str = compressions.GZIP) -> None:
        self._out = out
        self._compress, self._flush = compressions.deflater(compression)
        self._hash = hashlib.sha512()
        self._pending = bytearray()
        self.size = 0

    def add(self, entry: Entry, content: Iterable[bytes | memoryview] = ()) -> None:
        """Write `entry`; `content` must hold exactly its size."""
        self._pending += header.encode(entry)
        written = 0
        for piece in content:
            written += len(piece)
            self._pending += piece
            if len(self._pending) >= _PIECE:
                self._drain()
        if written != entry.size:
            raise AppcError(f"{shown(entry.name)}: changed size while it was read")
        if padding := -written % tar.BLOCK:
            self._pending += bytes(padding)
        if len(self._pending) >= _PIECE:
            self._drain()

    def finish(self) -> ImageID:
        """Write the end of the archive; the ID of the image."""
        self._pending += header.END
        self._drain()
        self._out.write(self._flush())
        self._out.flush()
        return ImageID.from_digest(self._hash.digest())

    def _drain(self) -> None:
        data = bytes(self._pending)
        self._pending.clear()
        self.size += len(data)
        self._hash.update(data)
        self._out.write(self._compress(data))


def manifest_entry(size: int, seconds: int = 0) -> Entry:
    """The member `manifest`, of `size` bytes."""
    mtime = seconds * 1_000_000_000
    return Entry(MANIFEST, tar.FILE, 0o644, 0, 0, size, mtime, b"", (0, 0), {})


def build(
    rootfs: str | int,
    manifest: bytes,
    out: BinaryIO,
    *,
    compression: str = compressions.GZIP,
    owner_root: bool = False,
    owner: Callable[[int, int], tuple[int, int]] | None = None,
    latest: int | None = None,
) -> ImageID:
    """Write the image of `manifest` (as it is) and the directory `rootfs` (path or fd) to `out`.

    `owner_root` gives everything to 0:0, `owner` maps (uid, gid) otherwise; times later than `latest`
    (seconds, as in SOURCE_DATE_EPOCH) become `latest`. Raises OSError for what cannot be read.
    """
    from appc.aci.tree import Walk

    if owner_root:
        owner = _root_owner
    root = os.open(rootfs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if isinstance(rootfs, str) else rootfs
    try:
        writer = Writer(out, compression)
        writer.add(manifest_entry(len(manifest), latest or 0), (manifest,))
        for entry, fd in Walk(root, ROOTFS, owner=owner, latest=latest):
            writer.add(entry, _content(fd, entry.size) if fd >= 0 else ())
        return writer.finish()
    finally:
        if isinstance(rootfs, str):
            os.close(root)


def replace_manifest(
    image: BinaryIO,
    manifest: bytes,
    out: BinaryIO,
    *,
    compression: str = compressions.GZIP,
    limits: Limits = DEFAULT,
) -> ImageID:
    """Copy the image in `image` to `out` with another manifest, in the place where the old one was."""
    from appc.aci.layout import Layout

    reader = tar.TarReader(compressions.inflate(image, limits=limits), limits)
    layout = Layout(limits)
    writer = Writer(out, compression)
    for entry in reader:
        layout.see(entry)
        layout.raise_if_bad()
        if entry.name == MANIFEST:
            writer.add(entry._replace(size=len(manifest)), (manifest,))
        else:
            writer.add(entry, reader.content())
    layout.finish()
    layout.raise_if_bad()
    return writer.finish()


def _root_owner(uid: int, gid: int) -> tuple[int, int]:
    del uid, gid
    return 0, 0


def _content(fd: int, size: int) -> Iterator[bytes]:
    """At most `size` bytes and one more of the open file: growing files are noticed, not followed."""
    left = size + 1
    while left and (data := os.read(fd, min(left, _PIECE))):
        left -= len(data)
        yield data
