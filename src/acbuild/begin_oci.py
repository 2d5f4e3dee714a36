"""Beginning a build of mode oci: with nothing, files, an image in any form, or one of a registry."""

from __future__ import annotations

import os
from contextlib import ExitStack

from acbuild import layers, provenance
from acbuild.begin import is_path, local
from acbuild.context import CURRENT, OCI, Build
from acbuild.errors import AcbuildError
from acbuild.image import oci as oci_image
from oci.types.platform import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from acbuild.settings import Settings
    from oci.image import Image

DOCKER = "docker://"


def fill(settings: Settings, context: str, start: str, *, insecure: bool, say: Callable[[str], None]) -> None:
    """Put the image that START means into the new `context`."""
    directory = f"{context}/{CURRENT}"
    build = Build(context, -1, OCI)
    os.mkdir(build.rootfs, 0o755)
    os.utime(build.rootfs, (0, 0))
    if not start:
        oci_image.new_image(directory).save()
    elif start.startswith(DOCKER):
        from acbuild import fetch

        with fetch.from_registry(settings, start, insecure=insecure) as (image, uri):
            _image(build, image, oci_image.LATEST)
            provenance.note(build, uri, {"sha256": image.descriptor.digest.hex})
    elif is_path(start):
        _local(build, local(start), start, say)
    else:
        raise AcbuildError(
            f"{start}: a build of mode oci cannot begin with an image found by discovery",
            hint="use docker://NAME, or a file",
        )


def _local(build: Build, path: str, start: str, say: Callable[[str], None]) -> None:
    from oci import source

    directory = f"{build.path}/{CURRENT}"
    is_directory = os.path.isdir(path)
    if os.path.lexists(f"{path}/oci-layout") if is_directory else is_image(path):
        with source.opened(path, None, Platform.of_host()) as found:
            image = found.image
            tag = found.names[0] if found.names else oci_image.LATEST
            _image(build, image, tag.rpartition(":")[2] or oci_image.LATEST)
            provenance.note(build, f"file:{start}", {"sha256": image.descriptor.digest.hex})
            return
    from acbuild.begin import from_directory, unpacked

    if is_directory:
        from_directory(build, path, say)
        oci_image.new_image(directory).save()
        return
    with open(path, "rb") as file:
        manifest = unpacked(build, file, f"file:{start}", say)
    config = None
    if manifest is not None:
        from oci.convert import to_config

        notes: list[str] = []
        config = to_config.config(manifest, [], notes)
        for note in notes:
            say(note)
    oci_image.new_image(directory, config).save()


def is_image(path: str) -> bool:
    """Whether the file is an image layout or what `docker save` writes; else it is an archive of files."""
    from oci import docker_archive, layout
    from oci.members import Members

    with Members(path) as members:
        return layout.MARKER in members or docker_archive.is_one(members)


def _image(build: Build, image: Image, tag: str) -> None:
    """Take over `image`: its layers as they are, and what they come to as the root filesystem.

    Manifest and configuration are written anew, in OCI's form: an archive of `docker save` has no manifest.
    """
    from oci import blobs
    from oci.layers import flatten
    from oci.layers.flatten import Source

    directory = f"{build.path}/{CURRENT}"
    new = oci_image.OciImage(
        directory,
        image.config,
        tuple(one._replace(media_type=_oci_type(one.media_type)) for one in image.manifest.layers),
        image.manifest.annotations,
        tag,
        None,
    )
    with ExitStack() as stack:
        sources = []
        for layer in image.layers:
            blobs.copy(image.blobs, layer.descriptor, new.blobs)
            file = stack.enter_context(new.blobs.open(layer.descriptor))
            sources.append(Source(file, layer.diff_id))
        flatten.to_directory(sources, build.rootfs)
    new.save()
    layers.note_base(build)


def _oci_type(media_type: str) -> str:
    """OCI's name for the kind of a layer: its compression is what Docker's names end with, too."""
    from oci.types import media

    ending = media_type.replace(".", "+").rpartition("+")[2]
    return media.layer(ending if ending in {"gzip", "zstd"} else "none")
