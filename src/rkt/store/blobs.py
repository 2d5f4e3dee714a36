"""Archives in the store: brought in durably (D1), read, found by the beginning of their ID, removed.

The files are the truth: an image is there when its archive is. The manifest beside it is a copy for speed,
and its modification time is when the image was last used; the archive's is when it was imported.
"""

from __future__ import annotations

import os

from linux import files
from linux.named_tuple import NamedTuple
from rkt.errors import RktError
from rkt.store.paths import file_mode, is_image_id, make_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from appc.aci.limits import Limits
    from appc.schema.image import ImageManifest
    from rkt.store.paths import Paths

_SHORTEST_PREFIX = 2
_LARGEST_MANIFEST = 4 << 20
#: Bytes that may wait in memory while there is more to come: the disk works while we decompress.
_WRITE_BEHIND = 8 << 20


class Incoming(NamedTuple):
    """An archive that has been read and checked, in a file that has no name yet."""

    image_id: str
    manifest: bytes
    fd: int


class NoSuchImage(RktError):
    """An image that the store does not have."""


def receive(paths: Paths, file: BinaryIO, *, limits: Limits | None = None) -> Incoming:
    """Decompress, hash and check the image in `file` (seekable) into a nameless file of the store.

    The caller closes `fd`; until `commit` nothing is in the store, whatever happens. Raises InvalidArchive.
    """
    from appc.aci import reader
    from appc.aci.limits import DEFAULT

    make_directory(paths.temporary)
    make_directory(paths.blobs)
    fd = files.anonymous_file(paths.temporary, file_mode(paths.blobs))
    written = started = 0

    def keep(chunk: bytes) -> None:
        nonlocal written, started
        files.write_all(fd, chunk)
        written += len(chunk)
        if written - started >= _WRITE_BEHIND:
            files.start_writing(fd, started, written - started)
            started = written

    try:
        archive = reader.read_caged(file, limits=limits or DEFAULT, sink=keep)
        return Incoming(str(archive.image_id), archive.manifest, fd)
    except BaseException:
        os.close(fd)
        raise


def receive_record(paths: Paths, record: bytes, manifest: bytes) -> Incoming:
    """The record of an image of layers in a nameless file of the store, as `receive` does it for archives."""
    from hashlib import sha512

    make_directory(paths.temporary)
    make_directory(paths.blobs)
    fd = files.anonymous_file(paths.temporary, file_mode(paths.blobs))
    try:
        files.write_all(fd, record)
    except BaseException:
        os.close(fd)
        raise
    return Incoming(f"sha512-{sha512(record).hexdigest()}", manifest, fd)


def commit(paths: Paths, incoming: Incoming) -> bool:
    """Put the archive and its manifest in place, durably; False when the store had it already.

    The archive comes last: it is what makes the image exist.
    """
    blob = paths.blob(incoming.image_id)
    manifest = paths.manifest(incoming.image_id)
    for path in (blob, manifest):
        make_directory(os.path.dirname(path))
    if os.path.exists(blob) and _exists_whole(blob, incoming.fd) and os.path.exists(manifest):
        return False
    files.write_atomically(manifest, incoming.manifest, mode=file_mode(os.path.dirname(manifest)))
    try:
        files.link_into_place(incoming.fd, blob, mode=file_mode(os.path.dirname(blob)))
    except FileExistsError:
        if _exists_whole(blob, incoming.fd):
            return False
        os.unlink(blob)  # shortened by a failing disk or a hand: what we bring is whole
        files.link_into_place(incoming.fd, blob)
    return True


def _exists_whole(blob: str, fd: int) -> bool:
    try:
        return os.stat(blob).st_size == os.fstat(fd).st_size
    except FileNotFoundError:
        return False


def resolve(paths: Paths, text: str) -> str:
    """The whole ID of the image that `text` (`sha512-` and at least two digits, any case) begins.

    Raises NoSuchImage, or RktError for an ambiguous or malformed beginning.
    """
    prefix = text.removeprefix("sha512-").lower()
    if not text.startswith("sha512-") or prefix.strip("0123456789abcdef"):
        raise RktError(f"{text!r}: no image ID", hint="an image ID is sha512- and hexadecimal digits")
    if len(prefix) < _SHORTEST_PREFIX:
        raise RktError(f"image ID {text} is too short", hint=f"give at least {_SHORTEST_PREFIX} digits")
    matches = []
    for image_id in paths.image_ids(prefix):
        matches.append(image_id)
        if len(matches) > 1:
            raise RktError(
                f"ambiguous image ID: {text}", hint=f"it could be {matches[0][:39]} or {matches[1][:39]}"
            )
    if not matches:
        raise NoSuchImage(f"no image {text} in the store", hint="see `rkt image list`")
    return matches[0]


def require(paths: Paths, image_id: str) -> str:
    """`image_id`, which must be whole and in the store: NoSuchImage else."""
    if not is_image_id(image_id) or not os.path.exists(paths.blob(image_id)):
        raise NoSuchImage(f"no image {image_id[:39]} in the store")
    return image_id


def open_stored(paths: Paths, image_id: str) -> BinaryIO:
    """What the ID is the hash of, to read: an archive, or the record of an image of layers."""
    try:
        return open(paths.blob(image_id), "rb")
    except FileNotFoundError:
        raise NoSuchImage(f"no image {image_id[:39]} in the store") from None


def is_record(fd: int) -> bool:
    """Whether what is stored is the record of an image of layers (`rkt.store.oci.records`): no archive
    begins so."""
    return os.pread(fd, 1, 0) == b"{"


def open_blob(paths: Paths, image_id: str) -> BinaryIO:
    """The archive, to read; of an image of layers one that is made now, in a file without a name."""
    file = open_stored(paths, image_id)
    if not is_record(file.fileno()):
        return file
    with file:
        from rkt.store.oci import archive, records

        return archive.unnamed(paths, records.read(file.fileno()))


def manifest_bytes(paths: Paths, image_id: str) -> bytes:
    """The manifest as it is in the archive; the lost copy beside it is made again."""
    try:
        with open(paths.manifest(image_id), "rb") as file:
            data = file.read(_LARGEST_MANIFEST)
        if data:
            os.stat(paths.blob(image_id))
            return data
    except FileNotFoundError:
        pass
    data = manifest_inside(paths, image_id)
    path = paths.manifest(image_id)
    try:
        make_directory(os.path.dirname(path))
        files.write_atomically(path, data, mode=file_mode(os.path.dirname(path)))
    except OSError:
        pass  # a full disk, or a store that we may only read: the answer is the same
    return data


def manifest_inside(paths: Paths, image_id: str) -> bytes:
    """The manifest from the archive or record itself."""
    with open_stored(paths, image_id) as blob:
        if is_record(blob.fileno()):
            from rkt.store.oci import records

            return records.read(blob.fileno()).image_manifest.encode()
        from appc.aci import reader

        return reader.read_manifest(blob)


def touch(paths: Paths, image_id: str) -> None:
    """Note that the image is used now. Losing that in a crash, or on a full disk, does no harm."""
    try:
        os.utime(paths.manifest(image_id))
    except OSError:
        return


def remove(paths: Paths, image_id: str) -> None:
    """Remove the archive, then its manifest: works on a full disk, and half of it is none of it."""
    try:
        os.unlink(paths.blob(image_id))
    except FileNotFoundError:
        raise NoSuchImage(f"no image {image_id[:39]} in the store") from None
    try:
        os.unlink(paths.manifest(image_id))
    except FileNotFoundError:
        pass
    for path in (paths.blob(image_id), paths.manifest(image_id)):
        try:
            files.sync_directory(os.path.dirname(path))
        except FileNotFoundError:
            continue


def check_platform(manifest: ImageManifest) -> None:
    """Refuse an image that is not for this host: rkt's rule is that both labels must be there and fit."""
    from appc.jsonfield import quoted
    from appc.types import platforms

    host_os, host_arch = platforms.of_host()
    labels = manifest.labels.as_dict()
    for name in ("os", "arch"):
        if name not in labels:
            raise RktError(f"missing {name} label in the image manifest")
    if labels["os"] != host_os:
        raise RktError(f"bad os {quoted(labels['os'])} (must be one of: [{host_os}])")
    if labels["arch"] != host_arch:
        raise RktError(f"bad arch {quoted(labels['arch'])} for {host_os} (must be one of: [{host_arch}])")


def digest(fd: int, *, progress: Callable[[int], None] | None = None) -> str:
    """The image ID that the archive open at `fd` really has. Does not move the file's position."""
    import hashlib

    found = hashlib.sha512()
    offset = 0
    while data := os.pread(fd, 1 << 20, offset):
        found.update(data)
        offset += len(data)
        if progress is not None:
            progress(len(data))
    return "sha512-" + found.hexdigest()
