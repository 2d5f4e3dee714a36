"""Bringing an image of layers into the store: its blobs are there, its record makes it an image."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import ExitStack

from linux.paths import Root
from oci.convert import identity
from oci.convert.to_manifest import Ids, manifest
from oci.errors import InvalidImage
from oci.layers import flatten, stack
from oci.types import media
from rkt.store.oci import content, layers
from rkt.store.oci.records import Record, StoredLayer
from rkt.store.oci.trees import open_layers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from appc.aci.limits import Limits
    from oci.convert.to_manifest import Origin
    from oci.image import Image, Layer
    from rkt.store.paths import Paths

_ACCOUNTS = (identity.PASSWD, identity.GROUP)
_LARGEST_FILE = 1 << 20
_MISSING = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


def record_of(
    paths: Paths, image: Image, origin: Origin, reference: str, notes: list[str], *, limits: Limits
) -> Record:
    """The record of `image`, whose blobs are in the store; as root its layers get unpacked.

    `notes` takes what appc cannot say of it. The caller has `content.InUse`. InvalidImage, InvalidArchive,
    DigestMismatch for an image that is not what it should be.
    """
    found = tuple(_with_diff_id(layer, origin.name) for layer in image.layers)
    unpacked = os.geteuid() == 0 and layers.ensure(paths, found, content.blobs(paths), limits)
    process = image.config.process
    accounts: Mapping[bytes, bytes] = {}
    if not unpacked:
        # Nobody has looked into all layers yet: what is broken must not become an image.
        accounts = _surveyed(paths, found, limits)
    elif process is not None and identity.needs_files(process.user):
        known = ((name, _file(paths, found, os.fsdecode(name))) for name in _ACCOUNTS)
        accounts = {name: data for name, data in known if data is not None}
    top = found[-1].descriptor.digest.hex if found else ""
    ids = Ids(top, image.descriptor.digest)
    described = manifest(image.config, origin, ids, notes, accounts=accounts)
    return Record(reference, image.descriptor, image.manifest.config, found, described)


def _with_diff_id(layer: Layer, what: str) -> StoredLayer:
    """The layer, whose diff ID is known; docker save's oldest form has plain layers and says none."""
    if layer.diff_id is not None:
        return StoredLayer(layer.descriptor, layer.diff_id)
    if layer.descriptor.media_type not in {media.DOCKER_LAYER, media.OCI_LAYER}:
        raise InvalidImage(f"{what}: a compressed layer without a digest of what is in it")
    return StoredLayer(layer.descriptor, layer.descriptor.digest)


def _surveyed(paths: Paths, found: Sequence[StoredLayer], limits: Limits) -> Mapping[bytes, bytes]:
    """The image's /etc/passwd and /etc/group, from the layers as they are stored."""
    with ExitStack() as opened:
        sources = open_layers(paths, found, opened.enter_context)
        return flatten.survey(sources, wanted=_ACCOUNTS, limits=limits).files


def _file(paths: Paths, found: Sequence[StoredLayer], path: str) -> bytes | None:
    """The image's file `path` (a name in a directory) from the unpacked layers; no link is followed."""
    above, _, name = path.partition("/")
    for layer in reversed(found):
        with Root.open(layers.rootfs(paths, layer.diff_id)) as root:
            try:
                directory = root.open_beneath(above, os.O_RDONLY | os.O_DIRECTORY)
            except OSError as error:
                if error.errno not in _MISSING:
                    raise
                if error.errno != errno.ENOENT or _is_opaque(root.fd):
                    return None  # it is no directory (a link, a whiteout), or nothing below counts
                continue
            try:
                data, known = _read(directory, name)
            finally:
                os.close(directory)
            if known:
                return data
    return None


def _read(directory: int, name: str) -> tuple[bytes | None, bool]:
    """What one layer's directory has as the file `name`, and whether lower layers have no say any more."""
    try:
        status = os.lstat(name, dir_fd=directory)
    except FileNotFoundError:
        return None, _is_opaque(directory)
    if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST_FILE:
        return None, True
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    with open(fd, "rb") as file:
        return file.read(_LARGEST_FILE), True


def _is_opaque(directory: int) -> bool:
    try:
        return os.getxattr(directory, stack.OPAQUE_ATTRIBUTE) == b"y"
    except OSError:
        return False
