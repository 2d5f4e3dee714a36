"""Reading an image in one pass: decompress, hash, check, and hand the plain bytes on."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from appc.aci import compression, tar
from appc.aci.errors import InvalidArchive
from appc.aci.layout import MANIFEST, Layout
from appc.aci.limits import DEFAULT, Limits
from appc.types.image_id import ImageID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO


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
    reader = tar.TarReader(iter(tap), limits)
    layout = Layout(limits)
    manifest = b""
    for entry in reader:
        layout.see(entry)
        if entry.name == MANIFEST and not manifest:
            manifest = reader.read()
    layout.finish()
    layout.raise_if_bad()
    return Archive(ImageID.from_digest(tap.hash.digest()), manifest, tap.size, reader.count)


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
