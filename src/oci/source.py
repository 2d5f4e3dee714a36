"""Images in files, whatever made these: a docker archive, an OCI layout as a directory or as an archive."""

from __future__ import annotations

import os
from contextlib import contextmanager

from linux.named_tuple import NamedTuple
from oci import docker_archive, layout
from oci.errors import NoSuchImage
from oci.members import Members

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from oci.image import Image
    from oci.types.config import ImageConfig
    from oci.types.platform import Platform
    from oci.types.reference import Reference


class Found(NamedTuple):
    """An image and what its file calls it: `names` are references, or bare tags in an OCI layout.

    `chain` has the configuration of each layer where the file is of docker save's oldest form.
    """

    image: Image
    names: tuple[str, ...]
    chain: tuple[ImageConfig, ...] = ()


@contextmanager
def opened(path: str, wanted: Reference | None, platform: Platform) -> Iterator[Found]:
    """``with opened(path, wanted, platform) as found``: the image `wanted`, or the only one that is there.

    Raises NoSuchImage when it is not there, or there are several; InvalidImage for what is broken.
    """
    if os.path.isdir(path):
        yield _in_layout(layout.read_directory(path), wanted, platform)
        return
    with Members(path) as members:
        if docker_archive.is_one(members):
            saved = docker_archive.select(members, wanted)
            yield Found(saved.image, saved.names, saved.chain)
            return
        if layout.MARKER not in members:
            raise NoSuchImage(
                f"{path}: could not find an image",
                hint="it is neither what `docker save` writes nor an OCI layout",
            )
        yield _in_layout(layout.read_members(members), wanted, platform)


def _in_layout(found: layout.Layout, wanted: Reference | None, platform: Platform) -> Found:
    """A layout knows its images by a bare tag, by a whole name, or not at all."""
    name = ""
    if wanted is not None:
        known = found.names()
        candidates = (wanted.original, str(wanted), wanted.shown_tag)
        name = next((one for one in candidates if one in known), "" if not known else wanted.shown_tag)
    image = found.image(name, platform)
    if not name and len(known := found.names()) == 1:
        name = known[0]
    return Found(image, (name,) if name else ())
