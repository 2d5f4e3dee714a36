"""The blobs of images of layers, by digest, and the lock that keeps them while somebody brings some in.

A blob without a record that names it may belong to an image that is just being fetched. So whoever fetches
shares a lock on the directory for as long as that takes, and who collects must have it alone.
"""

from __future__ import annotations

import os

from linux import files
from oci.blobs import BlobDirectory
from oci.errors import InvalidImage
from oci.image import Image
from oci.types import manifest as manifests
from oci.types.config import ImageConfig
from oci.types.digest import Digest
from oci.types.manifest import Manifest
from rkt.store.paths import make_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rkt.store.oci.records import Record
    from rkt.store.paths import Paths

_ALGORITHMS = ("sha256", "sha512")


def blobs(paths: Paths) -> BlobDirectory:
    """The blobs of the store; its directories are made if they are missing."""
    for name in ("partial", *_ALGORITHMS):
        make_directory(f"{paths.content}/{name}")
    return BlobDirectory(paths.content, partial=f"{paths.content}/partial", trusted=True)


def image(paths: Paths, record: Record) -> Image:
    """The image of the record, to be read: its documents are parsed, its layers are in `blobs`."""
    store = blobs(paths)
    what = str(record.manifest.digest)
    with store.open(record.manifest) as file:
        manifest = manifests.parse(file.read(), record.manifest.media_type, what)
    if not isinstance(manifest, Manifest):
        raise InvalidImage(f"{what}: is an index, no image")
    with store.open(record.config) as file:
        config = ImageConfig.parse(file.read(), what)
    return Image(store, record.manifest, manifest, config)


class InUse:
    """``with InUse(paths):`` nothing that no image names yet is collected."""

    __slots__ = ("_fd", "_path")

    def __init__(self, paths: Paths) -> None:
        self._path = paths.content
        self._fd = -1

    def __enter__(self) -> None:
        make_directory(self._path)
        self._fd = files.lock_directory(self._path, exclusive=False)

    def __exit__(self, *exception: object) -> None:
        os.close(self._fd)


class Idle:
    """``with Idle(paths) as idle:`` whether nobody brings anything in; if so nobody begins to meanwhile."""

    __slots__ = ("_fd", "_path")

    def __init__(self, paths: Paths) -> None:
        self._path = paths.content
        self._fd = -1

    def __enter__(self) -> bool:
        try:
            self._fd = files.lock_directory(self._path, exclusive=True, blocking=False)
        except (BlockingIOError, FileNotFoundError):
            return False
        return True

    def __exit__(self, *exception: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def stored(paths: Paths) -> Iterator[Digest]:
    """The digests of all blobs."""
    for algorithm in _ALGORITHMS:
        for name in sorted(names(f"{paths.content}/{algorithm}")):
            try:
                yield Digest(f"{algorithm}:{name}")
            except ValueError:
                continue  # no blob: a name in the making


def collect(paths: Paths, needed: set[Digest], *, older_than: float) -> list[str]:
    """Remove blobs that are not `needed`, and parts of some that were last added to before `older_than`.

    Seconds since 1970. The caller has `Idle`.
    """
    removed = []
    for digest in stored(paths):
        if digest not in needed:
            os.unlink(f"{paths.content}/{digest.algorithm}/{digest.hex}")
            removed.append(str(digest))
    for algorithm in _ALGORITHMS:
        files.collect_temporary(f"{paths.content}/{algorithm}")
    for name in names(f"{paths.content}/partial"):
        path = f"{paths.content}/partial/{name}"
        if os.stat(path).st_mtime <= older_than:
            os.unlink(path)
            removed.append(name)
    return removed


def names(directory: str) -> list[str]:
    """What is in a directory; nothing in one that is not there."""
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []
