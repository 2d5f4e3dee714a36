"""Sending the image to where others get it: a registry, or a server that takes what acpush sends.

What is sent is what `write` would write: the image has the same digest, or ID, either way. Who we are is what
rkt's configuration says (`auth.d`, `certs.d`, `registries.d`), and for registries `docker login` as well.
"""

from __future__ import annotations

import os
from contextlib import contextmanager

from acbuild import freestanding
from acbuild.context import OCI
from acbuild.errors import AcbuildError
from acbuild.scratch import scratch
from linux.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from acbuild.context import Build
    from acbuild.settings import Settings
    from appc.types.image_id import ImageID
    from oci.blobs import BlobDirectory
    from oci.image import Image
    from oci.types.digest import Digest

DOCKER = "docker://"


class Telling(NamedTuple):
    """Who is told: `warn` of what gets lost, `detail` of steps, `progress` of bytes more and of how many."""

    warn: Callable[[str], None]
    detail: Callable[[str], None]
    progress: Callable[[int, int], None]


class Signature(NamedTuple):
    """How an ACI is signed: now, by gpg with these arguments; else (None) as the file beside it says.

    `unsigned` is the user's word for neither.
    """

    gpg: Sequence[str] | None = None
    unsigned: bool = False


def to_registry(
    settings: Settings, build: Build | None, name: str, *, insecure: bool, telling: Telling
) -> Digest:
    """Push to ``docker://…`` the image of `build`, or that of the file `settings.source`; its digest.

    `insecure` allows plain http where https gives no answer.
    """
    from oci.registry import configured
    from oci.registry.push import push
    from oci.types.reference import Reference

    try:
        reference = Reference.parse(name)
    except ValueError as error:
        raise AcbuildError(str(error)) from None
    with _layers(settings, build, telling.warn) as image:
        return push(
            reference,
            image,
            settings=configured.settings(settings.config_dirs, plain_http=insecure),
            logins=configured.logins(settings.config_dirs),
            progress=telling.progress,
        )


def to_server(
    settings: Settings,
    build: Build | None,
    where: str,
    signature: Signature,
    *,
    insecure: bool,
    telling: Telling,
) -> ImageID:
    """Push the ACI to the server that discovery finds for the name, or address, `where`; the image's ID.

    `insecure` allows plain http, over which credentials do not go.
    """
    from appc import app_string
    from appc.aci import reader
    from appc.http.certificates import Certificates
    from appc.http.client import Client
    from appc.push import Parts, Pusher, endpoint
    from appc.schema.image import ImageManifest
    from appc.settings import auth

    beside = f"{settings.source}.asc" if build is None else ""
    if signature.gpg is None and not signature.unsigned and not os.path.lexists(beside):
        raise AcbuildError(
            "the image has no signature", hint="use --sign, or --unsigned for a server that takes it so"
        )
    if "://" not in where:
        app_string.parse(where)  # before anything is written
    sent = 0

    def advance(done: int, total: int) -> None:
        nonlocal sent
        telling.progress(done - sent, total)
        sent = done

    with scratch() as directory:
        path = _aci(settings, build, directory, telling.warn, named=True)
        with (
            open(path, "rb") as file,
            Client(
                auth.load(settings.config_dirs),
                certificates=Certificates.of(settings.config_dirs),
                insecure_http=insecure,
                agent="acbuild",
            ) as client,
        ):
            archive = reader.read(file)
            parts = Parts(archive.manifest, _signature(beside, file.fileno(), signature), file.fileno())
            place = where
            if "://" not in where:
                place = endpoint(client, where, ImageManifest.parse(archive.manifest), tell=telling.detail)
            Pusher(client, tell=telling.detail, progress=advance).push(place, parts)
            return archive.image_id


@contextmanager
def _layers(settings: Settings, build: Build | None, warn: Callable[[str], None]) -> Iterator[Image]:
    """The image as one of layers, its blobs in files of their own."""
    from oci.blobs import BlobDirectory

    if build is not None and build.mode == OCI:
        from acbuild.layers import assembled

        with assembled(build, "gzip") as image:
            yield image
        return
    with scratch() as directory:
        blobs = BlobDirectory(f"{directory}/blobs", trusted=True, durable=False)
        if build is None and not freestanding.is_aci(settings):
            from oci import source
            from oci.types.platform import Platform

            with source.opened(settings.source, None, Platform.of_host()) as found:
                image = found.image.copy_to(blobs)
            yield image
        else:
            yield _converted(_aci(settings, build, directory, warn, named=False), blobs, warn)


def _converted(path: str, blobs: BlobDirectory, warn: Callable[[str], None]) -> Image:
    """The ACI in `path` as an image of one layer."""
    from appc.aci.reader import read_manifest
    from appc.schema.image import ImageManifest
    from oci.convert import to_image

    with open(path, "rb") as file:
        manifest = ImageManifest.parse(read_manifest(file))
        if manifest.dependencies or manifest.path_whitelist:
            raise AcbuildError(
                f"{manifest.name}: has dependencies or a whitelist, which no registry knows",
                hint="`acbuild squash` makes them part of the image",
            )
        notes: list[str] = []
        image = to_image.from_aci(file, blobs, notes)[1]
    for note in notes:
        warn(note)
    return image


def _aci(
    settings: Settings, build: Build | None, directory: str, warn: Callable[[str], None], *, named: bool
) -> str:
    """The path of the ACI: the user's own, or one that is written to `directory` now."""
    if build is None:
        if not freestanding.is_aci(settings):
            raise AcbuildError(f"{settings.source}: is no ACI", hint=f"images of OCI go to {DOCKER}NAME")
        return settings.source
    if build.mode == OCI:
        raise AcbuildError("an image of mode oci goes to a registry", hint=f"push it to {DOCKER}NAME")
    from acbuild.write import Output, write

    path = f"{directory}/image.aci"
    # What becomes a layer is compressed as one.
    write(build, Output(path, compression="gzip" if named else "none", unnamed=not named), warn=warn)
    return path


def _signature(beside: str, image: int, wanted: Signature) -> bytes | None:
    if wanted.gpg is not None:
        from appc.signing import sign

        return sign(image, wanted.gpg)[0]
    if wanted.unsigned:
        return None
    from appc import openpgp
    from appc import signature as signatures

    with open(beside, "rb") as file:
        made = file.read(openpgp.SIGNATURE_LIMIT + 1)
    signatures.read(made)
    return made
