"""Images in files: OCI layouts (a directory or an archive) and what docker save writes."""

from __future__ import annotations

import os
from contextlib import contextmanager

from linux.named_tuple import NamedTuple
from oci import docker_archive, layout
from oci.convert.to_manifest import Origin
from oci.errors import DigestMismatch, NoSuchImage
from oci.members import Members
from oci.types.reference import Reference
from rkt.errors import RktError
from rkt.fetch.argument import DOCKER_ARCHIVE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from oci.image import Image
    from oci.types.platform import Platform
    from rkt.fetch.argument import Source

_ENDINGS = (".gz", ".tgz", ".xz", ".zst", ".tar", ".oci", ".docker")


class Found(NamedTuple):
    """An image, and the name or tag that it has in its file ("" if none)."""

    image: Image
    name: str


@contextmanager
def opened(source: Source, platform: Platform) -> Iterator[Found]:
    """``with opened(source, platform) as found``: the image that `source` means; its blobs are there."""
    if source.kind == DOCKER_ARCHIVE:
        wanted = _reference(source.inside) if source.inside else None
        with Members(source.value) as members:
            if not docker_archive.is_one(members):
                raise NoSuchImage(f"{source.value}: is no docker archive", hint="try oci: instead")
            saved = docker_archive.select(members, wanted)
            if source.digest:
                _check_id(source, saved.image)
            yield Found(saved.image, source.inside or next(iter(saved.names), ""))
        return
    if os.path.isdir(source.value):
        yield _in_layout(layout.read_directory(source.value), source, platform)
        return
    with Members(source.value) as members:
        yield _in_layout(layout.read_members(members), source, platform)


def _check_id(source: Source, image: Image) -> None:
    """Docker archives have no manifest to be named by; Docker's ID is the configuration's digest."""
    if image.manifest.config.digest != source.digest:
        raise DigestMismatch(source.value, source.digest, image.manifest.config.digest)


def _in_layout(found: layout.Layout, source: Source, platform: Platform) -> Found:
    names = found.names()
    name = source.inside or (names[0] if len(names) == 1 else "")
    # The digest is that of an entry of the index; all that is read from there on is checked.
    return Found(found.image(source.digest or source.inside, platform), name)


def _reference(text: str) -> Reference:
    try:
        return Reference.parse(text)
    except ValueError as error:
        raise RktError(str(error)) from None


def reference(found: Found) -> Reference | None:
    """The name of the image as a reference, if it is a whole one."""
    if "/" not in found.name and ":" not in found.name:
        return None  # a bare tag of a layout
    try:
        return Reference.parse(found.name)
    except ValueError:
        return None


def origin(source: Source, found: Found) -> Origin:
    """What the image is called: as the file says, without a registry, else as the file itself."""
    named = reference(found)
    if named is not None:
        return Origin(named.repository, named.shown_tag)
    base = os.path.basename(os.path.abspath(source.value)).lower()
    for ending in _ENDINGS:
        base = base.removesuffix(ending)
    return Origin(base or "image", found.name)
