"""rkt image convert: write an image as ACI, OCI layout or docker archive."""

from __future__ import annotations

import os
from contextlib import contextmanager

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from typing import BinaryIO

    from console.output import Output
    from oci.convert.to_manifest import Origin
    from oci.image import Image
    from rkt.fetch.argument import Source
    from rkt.store import Store

EXAMPLES = """\
  rkt image convert example.com/app oci:./layout:1.0
  rkt image convert ./app.aci docker-archive:app.tar:example.com/app:1.0
  rkt image convert docker-archive:saved.tar app.aci
  rkt image convert docker://busybox oci-archive:busybox.tar
"""
DESCRIPTION = """\
Writes an image in another format. IMAGE is one of the store (its ID or name, docker://… as it was fetched),
or a file: an ACI, oci:PATH[:NAME], docker-archive:FILE[:NAME]. OUTPUT is a file ending in .aci,
oci:DIRECTORY[:TAG] (added to what is there), oci-archive:FILE[:TAG] or docker-archive:FILE[:NAME].

The same image gives the same bytes; layers stay as they are where the format allows it. What a format cannot
say is told. No signature is looked at: whoever runs the result does that. `rkt image export` writes an ACI
of the store as it is.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", help="an image of the store, or a file")
    parser.add_argument("output", metavar="OUTPUT", help="what to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")


def run(options: argparse.Namespace, out: Output) -> int:
    from rkt.store import Store

    settings = options.settings
    with (
        Store(settings.data_dir, settings.config_dirs()) as store,
        _source(store, options.image, out) as found,
    ):
        image, origin = found
        _write(image, origin, options, out)
    return 0


@contextmanager
def _source(store: Store, text: str, out: Output) -> Iterator[tuple[Image, Origin]]:
    """The image and what it is called."""
    from rkt.fetch import argument, imagefile

    source = argument.parse(text) if not text.startswith("sha512-") else None
    if source is not None and source.kind in {argument.OCI, argument.DOCKER_ARCHIVE}:
        from oci.types.platform import Platform

        with imagefile.opened(source, Platform.of_host()) as found:
            yield found.image, imagefile.origin(source, found)
    elif source is not None and source.kind == argument.FILE and os.path.isfile(source.value):
        with _aci_file(store, source, out) as converted:
            yield converted
    else:
        from oci.convert.to_manifest import Origin
        from rkt.cli.image.argument import image
        from rkt.cli.image.formats import as_layers

        found_id = image(store, text)
        manifest = store.manifest(found_id)
        with as_layers(store, found_id, out.warn) as one:
            yield one, Origin(str(manifest.name), manifest.labels.get("version") or "")


@contextmanager
def _aci_file(store: Store, source: Source, out: Output) -> Iterator[tuple[Image, Origin]]:
    from linux.files import temporary_directory
    from oci.blobs import BlobDirectory
    from oci.convert import to_image
    from oci.convert.to_manifest import Origin

    notes: list[str] = []
    with temporary_directory(store.temporary_path, "convert") as directory, open(source.value, "rb") as file:
        blobs = BlobDirectory(directory, durable=False)
        manifest, image = to_image.from_aci(file, blobs, notes, limits=store.limits())
        for text in notes:
            out.warn(text)
        yield image, Origin(str(manifest.name), manifest.labels.get("version") or "")


def _write(image: Image, origin: Origin, options: argparse.Namespace, out: Output) -> None:
    from oci import layout
    from oci.convert.to_oci import retyped

    kind, _, rest = options.output.partition(":")
    if kind == "oci" and rest:
        path, _, tag = rest.partition(":")
        layout.LayoutDirectory(path).add(retyped(image), tag or origin.tag)
    elif kind == "oci-archive" and rest:
        path, _, tag = rest.partition(":")
        with _new(path, options) as file:
            layout.write_archive([(retyped(image), tag or origin.tag)], file)
    elif kind == "docker-archive" and rest:
        path, _, name = rest.partition(":")
        with _new(path, options) as file:
            _docker_archive(image, name, origin, file)
    elif options.output.endswith(".aci"):
        with _new(options.output, options) as file:
            _aci(image, origin, file, out)
    else:
        raise RktError(
            f"{options.output}: no format that is known",
            hint="a file ending in .aci, oci:DIRECTORY, oci-archive:FILE or docker-archive:FILE",
        )


@contextmanager
def _new(path: str, options: argparse.Namespace) -> Iterator[BinaryIO]:
    from appc.aci.output import replacing

    try:
        with replacing(path, overwrite=options.overwrite) as file:
            yield file
    except FileExistsError:
        raise RktError(f"{path}: output file exists", hint="try --overwrite") from None


def _docker_archive(image: Image, name: str, origin: Origin, file: BinaryIO) -> None:
    from oci import docker_archive
    from oci.types.reference import Reference

    called = name or (f"{origin.name}:{origin.tag}" if origin.tag else origin.name).lower()
    try:
        reference = Reference.parse(called)
    except ValueError as error:
        raise RktError(str(error), hint="say what it is to be called: docker-archive:FILE:NAME") from None
    docker_archive.write([(image, (reference,))], file)


def _aci(image: Image, origin: Origin, file: BinaryIO, out: Output) -> None:
    from oci.convert import to_aci
    from oci.convert.to_manifest import Ids

    layers = image.manifest.layers
    ids = Ids(layers[-1].digest.hex if layers else "", image.descriptor.digest)
    converted = to_aci.squashed(image, origin, file, ids=ids)
    for text in converted.notes:
        out.warn(text)
    out.line(converted.image_id)
