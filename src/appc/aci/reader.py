"""Reading an image in one pass: decompress, hash, check, and hand the plain bytes on."""

from __future__ import annotations

import fcntl
import hashlib
import os

from appc.aci import compression, tar
from appc.aci.errors import InvalidArchive
from appc.aci.layout import MANIFEST, Layout
from appc.aci.limits import DEFAULT, Limits
from appc.types.image_id import ImageID
from linux.files import write_all
from linux.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO


_PIPE = 1 << 20  # what an ordinary user may have


class Archive(NamedTuple):
    """What reading an image found out. `size` is that of the plain archive, in bytes."""

    image_id: ImageID
    manifest: bytes
    size: int
    entries: int


class _Tap:
    """Chunks on their way to the parser: hashed, counted, given to `sink`."""

    def __init__(self, chunks: Iterator[bytes], sink: Callable[[bytes], object] | None) -> None:
        self._chunks = chunks
        self._sink = sink
        self.hash = hashlib.sha512()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self.hash.update(chunk)
            self.size += len(chunk)
            if self._sink is not None:
                self._sink(chunk)
            yield chunk


def read(
    file: BinaryIO,
    *,
    limits: Limits = DEFAULT,
    sink: Callable[[bytes], object] | None = None,
) -> Archive:
    """Read the image in `file` (seekable, from its start, to its end) and check archive and layout.

    `sink` gets the plain bytes as they come: they are not checked yet, so what it does must be undone on
    failure. The manifest is not parsed here. Raises InvalidArchive with every problem of the layout.
    """
    tap = _Tap(compression.inflate(file, limits=limits), sink)
    manifest, count = _walk(iter(tap), limits)
    return Archive(ImageID.from_digest(tap.hash.digest()), manifest, tap.size, count)


def _walk(chunks: Iterator[bytes], limits: Limits) -> tuple[bytes, int]:
    """Check every entry; the manifest and the number of entries."""
    reader = tar.TarReader(chunks, limits)
    layout = Layout(limits)
    manifest = b""
    for entry in reader:
        layout.see(entry)
        if entry.name == MANIFEST and not manifest:
            manifest = reader.read()
    layout.finish()
    layout.raise_if_bad()
    return manifest, reader.count


def read_caged(
    file: BinaryIO,
    *,
    limits: Limits = DEFAULT,
    sink: Callable[[bytes], object] | None = None,
) -> Archive:
    """As `read`, with decompression and parsing in a cage (rule R3): for images of unknown origin.

    The hash is taken here, over the very bytes that `sink` gets.
    """
    from appc.aci import cage

    stream = compression.Opened(file, limits)
    reading, writing = os.pipe()
    try:
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE)

        def work(inside: int) -> bytes:
            del inside
            found = _walk(_forwarded(stream.chunks(), writing), limits)
            os.close(writing)
            return b"%d\n" % found[1] + found[0]

        with cage.start(work, keep=(stream.fileno(), writing)) as child:
            os.close(writing)
            writing = -1
            tap = _Tap(iter(lambda: os.read(reading, _PIPE), b""), sink)
            for _ in tap:
                pass
            count, _, manifest = child.result().partition(b"\n")
            stream.finish()
        return Archive(ImageID.from_digest(tap.hash.digest()), manifest, tap.size, int(count))
    finally:
        stream.close()
        os.close(reading)
        if writing >= 0:
            os.close(writing)


def _forwarded(chunks: Iterator[bytes], pipe: int) -> Iterator[bytes]:
    for chunk in chunks:
        write_all(pipe, chunk)
        yield chunk


def read_manifest(file: BinaryIO, *, limits: Limits = DEFAULT) -> bytes:
    """The manifest in the image `file`, which is read no further. InvalidArchive when there is none."""
    reader = tar.TarReader(compression.inflate(file, limits=limits), limits)
    layout = Layout(limits)
    for entry in reader:
        if entry.name == MANIFEST:
            layout.see(entry)
            layout.raise_if_bad()
            return reader.read()
    raise InvalidArchive("no manifest")
