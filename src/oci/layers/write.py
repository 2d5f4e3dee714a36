"""Layers made of directories and of ACIs: the same tree gives the same bytes."""

from __future__ import annotations

import hashlib
import os

from appc.aci import compression as compressions
from appc.aci import header, tar
from appc.aci.extract import below_rootfs
from appc.aci.layout import MANIFEST, Layout
from appc.aci.limits import DEFAULT, Limits
from appc.aci.tar import Entry
from appc.aci.tree import Walk
from linux.paths import Root
from oci.image import Layer
from oci.layers.stack import OPAQUE_ATTRIBUTE, USER_OPAQUE_ATTRIBUTE
from oci.layers.tree import OPAQUE, WHITEOUT
from oci.types import media
from oci.types.digest import Digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO

    from oci.blobs import BlobDirectory

_PIECE = 1 << 20


class LayerWriter:
    """``with LayerWriter(blobs, "gzip") as layer``: `add` entries, then `finish`; else nothing is left."""

    def __init__(self, blobs: BlobDirectory, compression: str = compressions.GZIP) -> None:
        self._media_type = media.layer(compression)
        self._compress, self._flush = compressions.deflater(compression)
        self._new = blobs.create()
        self._hash = hashlib.sha256()
        self._pending = bytearray()

    def __enter__(self) -> LayerWriter:
        return self

    def __exit__(self, *_error: object) -> None:
        self._new.__exit__(None, None, None)

    def add(self, entry: Entry, content: Iterable[bytes | memoryview] = ()) -> None:
        """The next entry; `content` must hold exactly its size."""
        self._pending += header.encode(entry)
        size = 0
        for piece in content:
            size += len(piece)
            self.raw(piece)
        if size != entry.size:
            from appc.aci.errors import shown
            from oci.errors import OciError

            raise OciError(f"{shown(entry.name)}: changed size while it was read")
        self.raw(bytes(-size % tar.BLOCK))

    def raw(self, data: bytes | memoryview) -> None:
        """The next bytes of the plain archive."""
        self._pending += data
        if len(self._pending) >= _PIECE:
            self._drain()

    def finish(self) -> Layer:
        """End the archive; the layer, which is now in the blobs."""
        self._pending += header.END
        return self.close()

    def close(self) -> Layer:
        """As `finish`, for an archive that has its end already."""
        self._drain()
        self._new.write(self._flush())
        return Layer(self._new.finish(self._media_type), Digest(f"sha256:{self._hash.hexdigest()}"))

    def _drain(self) -> None:
        data = bytes(self._pending)
        self._pending.clear()
        self._hash.update(data)
        self._new.write(self._compress(data))


def from_directory(
    root: int,
    blobs: BlobDirectory,
    *,
    compression: str = compressions.GZIP,
    owner: Callable[[int, int], tuple[int, int]] | None = None,
    latest: int | None = None,
    changes: bool = False,
) -> Layer:
    """The layer of the tree under the directory fd `root`; `owner` and `latest` as `appc.aci.writer.build`.

    With `changes` the tree is the upper directory of an overlay: its whiteouts and opaque directories become
    those of a layer.
    """
    with LayerWriter(blobs, compression) as layer:
        for entry, fd in Walk(root, b"", owner=owner, latest=latest):
            if changes and entry.kind is tar.CHARACTER_DEVICE and entry.device == (0, 0):
                directory, slash, base = entry.name.rpartition(b"/")
                layer.add(_order(directory + slash + WHITEOUT + base, entry))
                continue
            layer.add(entry, _content(fd, entry.size) if fd >= 0 else ())
            if changes and entry.kind is tar.DIRECTORY and _is_opaque(root, entry.name):
                inside = b"" if entry.name == b"." else entry.name + b"/"
                layer.add(_order(inside + OPAQUE, entry))
        return layer.finish()


def _order(name: bytes, like: Entry) -> Entry:
    return Entry(name, tar.FILE, 0o600, 0, 0, 0, like.mtime, b"", (0, 0), {})


def _is_opaque(root: int, name: bytes) -> bool:
    directory = Root(os.dup(root))
    try:
        fd = directory.open_beneath(os.fsdecode(name), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    finally:
        directory.close()
    try:
        for attribute in (OPAQUE_ATTRIBUTE, USER_OPAQUE_ATTRIBUTE):
            try:
                if os.getxattr(fd, attribute) == b"y":
                    return True
            except OSError:
                continue
        return False
    finally:
        os.close(fd)


def _content(fd: int, size: int) -> Iterator[bytes]:
    """At most `size` bytes and one more of the open file: growing files are noticed, not followed."""
    left = size + 1
    while left and (data := os.read(fd, min(left, _PIECE))):
        left -= len(data)
        yield data


def from_aci(
    image: BinaryIO, blobs: BlobDirectory, *, compression: str = compressions.GZIP, limits: Limits = DEFAULT
) -> tuple[bytes, Layer]:
    """The manifest of the ACI in `image` (seekable), and its root filesystem as a layer. InvalidArchive.

    A file whose name begins with ``.wh.`` cannot be in a layer, where it would be an order: it is refused.
    """
    from appc.aci.errors import InvalidArchive, shown

    reader = tar.TarReader(compressions.inflate(image, limits=limits), limits)
    layout = Layout(limits)
    manifest = b""
    with LayerWriter(blobs, compression) as layer:
        for entry in reader:
            layout.see(entry)
            layout.raise_if_bad()
            if entry.name == MANIFEST:
                manifest = reader.read()
            elif entry.name != b".":
                inside = below_rootfs(entry)
                if b"/" + WHITEOUT in b"/" + inside.name:
                    raise InvalidArchive(f"{shown(inside.name)}: would be an order to remove in a layer")
                layer.add(inside, reader.content())
        layout.finish()
        layout.raise_if_bad()
        return manifest, layer.finish()
