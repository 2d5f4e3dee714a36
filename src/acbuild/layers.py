"""Layers of a build of mode oci: what changed in its root filesystem since the layers below were unpacked.

The root filesystem in the context is the whole of it, so that commands see what the image will have. What it
was is kept as a list; a layer is the difference: new and changed entries, whiteouts for what is gone.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager

from acbuild.context import CURRENT
from acbuild.errors import AcbuildError
from acbuild.image.oci import OciImage
from acbuild.tree.places import source_date_epoch
from acbuild.write import owner
from appc.aci import tar
from appc.aci.tree import Walk
from linux import files
from linux.paths import Root
from oci.layers.tree import WHITEOUT
from oci.layers.write import LayerWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from acbuild.context import Build
    from appc.aci.tar import Entry
    from oci.blobs import BlobDirectory
    from oci.image import Image, Layer
    from oci.types.descriptor import Descriptor

#: What was there when the layers below were unpacked: names and marks, each ended by a NUL.
BASE = f"{CURRENT}/base"
_PIECE = 1 << 20


def note_base(build: Build) -> None:
    """Take the root filesystem as it is now for that of the layers."""
    root = os.open(build.rootfs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        parts = [b"%s\0%s\0" % pair for pair in _marks(root)]
    finally:
        os.close(root)
    files.write_atomically(f"{build.path}/{BASE}", b"".join(parts), durable=False)


def _marks(root: int) -> Iterator[tuple[bytes, bytes]]:
    """Every name below the directory fd `root`, and what changes when what it names does."""
    stack = [b"."]
    while stack:
        directory = stack.pop()
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    name = os.fsencode(entry.name)
                    whole = name if directory == b"." else directory + b"/" + name
                    status = entry.stat(follow_symlinks=False)
                    yield whole, mark(status)
                    if stat.S_ISDIR(status.st_mode):
                        stack.append(whole)
        finally:
            os.close(fd)


def mark(status: os.stat_result) -> bytes:
    """A directory's time of change says nothing (its times are put back), a file's says everything."""
    changed = 0 if stat.S_ISDIR(status.st_mode) else status.st_ctime_ns
    seconds = status.st_mtime_ns // 1_000_000_000
    return b"%o %d %d %d %d" % (status.st_mode, status.st_uid, status.st_gid, seconds, changed)


def _base(build: Build) -> dict[bytes, bytes]:
    try:
        with open(f"{build.path}/{BASE}", "rb") as file:
            parts = file.read().split(b"\0")
    except FileNotFoundError:
        return {}
    return dict(zip(parts[:-1:2], parts[1::2], strict=True))


def is_changed(build: Build) -> bool:
    """Whether there is anything for a layer."""
    root = os.open(build.rootfs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return dict(_marks(root)) != _base(build)
    finally:
        os.close(root)


def difference(build: Build, blobs: BlobDirectory, compression: str) -> Layer:
    """The layer of what changed since `note_base`, in `blobs`."""
    return _Difference(build, _base(build)).write(blobs, compression)


def whole(build: Build, blobs: BlobDirectory, compression: str) -> Layer:
    """All of the root filesystem as one layer."""
    return _Difference(build, {}).write(blobs, compression)


class _Difference:
    """Finds out what differs, in one walk; then writes it in a second one."""

    def __init__(self, build: Build, base: dict[bytes, bytes]) -> None:
        self._rootfs = build.rootfs
        self._base = base
        self._wanted: set[bytes] = set()
        #: Names that are gone, by the directory that they were in.
        self._gone: dict[bytes, list[bytes]] = {}

    def write(self, blobs: BlobDirectory, compression: str) -> Layer:
        root = os.open(self._rootfs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._compare(dict(_marks(root)))
            written: set[bytes] = set()
            with LayerWriter(blobs, compression) as layer, Root(os.dup(root)) as inside:
                for entry, fd in Walk(root, b"", owner=owner(), latest=source_date_epoch()):
                    if entry.name == b"." and self._base:
                        self._write_gone(layer, b"")
                        continue
                    if entry.name not in self._wanted and entry.name != b".":
                        continue
                    self._write_entry(layer, inside, entry, fd, written)
                    if entry.kind is tar.DIRECTORY:
                        self._write_gone(layer, b"" if entry.name == b"." else entry.name)
                return layer.finish()
        finally:
            os.close(root)

    def _compare(self, now: dict[bytes, bytes]) -> None:
        for name, found in now.items():
            if self._base.get(name) != found:
                self._want(name)
        for name in self._base.keys() - now.keys():
            directory, _, base = name.rpartition(b"/")
            if directory in now or not directory:  # else the directory itself is what is gone
                self._gone.setdefault(directory, []).append(base)
                self._want(directory)

    def _want(self, name: bytes) -> None:
        """`name` goes into the layer, with the directories above it."""
        while name and name not in self._wanted:
            self._wanted.add(name)
            name = name.rpartition(b"/")[0]

    def _write_entry(
        self, layer: LayerWriter, inside: Root, entry: Entry, fd: int, written: set[bytes]
    ) -> None:
        if entry.kind is tar.HARD_LINK and entry.target not in written:
            # its other name is in a layer below, or comes later: here it is a file of its own
            content = inside.open_beneath(os.fsdecode(entry.name), os.O_RDONLY | os.O_NOFOLLOW)
            try:
                size = os.fstat(content).st_size
                layer.add(entry._replace(kind=tar.FILE, target=b"", size=size), _content(content, size))
            finally:
                os.close(content)
        else:
            layer.add(entry, _content(fd, entry.size) if fd >= 0 else ())
        written.add(entry.name)

    def _write_gone(self, layer: LayerWriter, directory: bytes) -> None:
        for base in sorted(self._gone.get(directory, ())):
            name = b"/".join(part for part in (directory, WHITEOUT + base) if part)
            layer.add(tar.Entry(name, tar.FILE, 0o600, 0, 0, 0, 0, b"", (0, 0), {}))


def _content(fd: int, size: int) -> Iterator[bytes]:
    left = size + 1
    while left and (data := os.read(fd, min(left, _PIECE))):
        left -= len(data)
        yield data


def commit(build: Build) -> bool:
    """Make a layer of what changed, so that what follows goes into another; False if nothing did."""
    image = _image(build)
    if not is_changed(build):
        return False
    build.about_to_change()
    layer = difference(build, image.blobs, "gzip")
    if layer.descriptor.digest != image.top:  # it is, when this very command was killed here
        image.add_layer(layer)
        image.save()
    note_base(build)
    return True


def squash(build: Build) -> None:
    """One layer instead of all."""
    image = _image(build)
    build.about_to_change()
    old = image.layers
    image.replace_layers(whole(build, image.blobs, "gzip"))
    image.save()
    note_base(build)
    for one in old:
        if one.digest != image.top and os.path.lexists(place := image.blobs.place(one.digest)):
            os.unlink(place)


@contextmanager
def assembled(build: Build, compression: str) -> Iterator[Image]:
    """``with assembled(build, compression) as image``: with what changed as one more layer, meanwhile."""
    from oci.image import load
    from oci.types.platform import Platform

    image = _image(build)
    layers, config = image.layers, image.config
    made: list[Descriptor] = []
    if is_changed(build):
        extra = difference(build, image.blobs, compression)
        image.add_layer(extra)
        made.append(extra.descriptor)
    try:
        complete = image.assembled()
        if made:
            made += [complete.descriptor, complete.manifest.config]
        yield load(image.blobs, complete.descriptor, Platform.of_host(), "the image")
    finally:
        # the context stays as it was: what changes next goes into the same layer
        image.layers, image.config = layers, config
        for descriptor in made:
            if descriptor not in layers:
                os.unlink(image.blobs.place(descriptor.digest))


def write_archive(build: Build, out: BinaryIO, *, compression: str) -> str:
    """Write image and layers as an image layout in a tar archive; its SHA-512, as an image ID."""
    import hashlib

    from oci import layout

    with assembled(build, compression) as whole:
        layout.write_archive([(whole, _image(build).tag)], out)
    out.seek(0)
    found = hashlib.sha512()
    while data := out.read(_PIECE):
        found.update(data)
    return f"sha512-{found.hexdigest()}"


def _image(build: Build) -> OciImage:
    image = build.image
    if not isinstance(image, OciImage):
        raise AcbuildError("layers are for builds of mode oci", hint="begin with --build-mode=oci")
    return image
