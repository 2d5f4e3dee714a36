"""docker2aci: convert Docker and OCI images into ACIs."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager

from oci.errors import OciError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from typing import BinaryIO

    from console.output import Output
    from oci.convert.to_aci import Converted
    from oci.convert.to_manifest import Ids, Origin
    from oci.image import Image
    from oci.source import Found
    from oci.types.platform import Platform
    from oci.types.reference import Reference

EXAMPLES = """\
  docker2aci docker://busybox
  docker2aci docker://quay.io/coreos/etcd:v3.4.0
  docker2aci --image=example.com/app:1.0 app.tar
  docker2aci --platform=linux/arm64 docker://alpine
"""
DESCRIPTION = """\
Writes ACIs into the current directory: one with all layers of the image, or with --nosquash one for each
layer, which depend on each other. The image comes from a registry (docker://) or from a file: what
`docker save` or `podman save` wrote, or an OCI layout, which may also be a directory. The same image gives
the same bytes.

Registries get the credentials of `docker login` and `podman login`, each over https its own. Those of rkt
(auth.d) come first; mirrors, certificates and such are rkt's too, from /usr/lib/rkt and /etc/rkt.
"""
_COMPRESSIONS = ("gzip", "none")
_CONFIG = ("/usr/lib/rkt", "/etc/rkt")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="FILE|docker://IMAGE", help="the image to convert")
    parser.add_argument("--nosquash", "--no-squash", action="store_true", help="write an ACI for each layer")
    parser.add_argument(
        "--image",
        dest="wanted",
        metavar="NAME[:TAG]",
        help="which image of the file to convert, and the name that it gets",
    )
    parser.add_argument("--compression", metavar="gzip|none", default="gzip", help="default: gzip")
    parser.add_argument("--platform", metavar="OS/ARCH", help="which image of an index (default: the host's)")
    parser.add_argument("--insecure-skip-verify", action="store_true", help="take any TLS certificate")
    parser.add_argument("--insecure-allow-http", action="store_true", help="use plain http where https fails")
    parser.add_argument("--debug", action="store_true", help="say more: what is done, the trail of an error")
    parser.add_argument("--version", action="store_true", help="show the version")


def run(options: argparse.Namespace, out: Output) -> int:
    from appc.errors import UnsupportedPlatform
    from oci.types.platform import Platform
    from oci.types.reference import Reference

    out.where, out.debugging = "docker2aci", options.debug
    if options.compression not in _COMPRESSIONS:
        raise OciError(
            f"unknown compression method: {options.compression}",
            hint="choose from " + ", ".join(_COMPRESSIONS),
        )
    try:
        platform = Platform.parse(options.platform) if options.platform else Platform.of_host()
    except UnsupportedPlatform as error:
        raise OciError(str(error), hint="say which with --platform") from None
    wanted = Reference.parse(options.wanted) if options.wanted else None
    if options.image.startswith("docker:"):
        if wanted is not None:
            raise OciError("--image is for files: the address of an image says which it is")
        done = _from_registry(Reference.parse(options.image), platform, options, out)
    else:
        done = _from_file(options.image, wanted, platform, options)
    _report(done, out)
    return 0


def _from_registry(
    reference: Reference, platform: Platform, options: argparse.Namespace, out: Output
) -> list[Converted]:
    from oci.blobs import BlobDirectory
    from oci.convert.to_manifest import Ids, Origin
    from oci.registry import configured, pull

    settings = configured.settings(
        _CONFIG, plain_http=options.insecure_allow_http, insecure_tls=options.insecure_skip_verify
    )
    logins = configured.logins(_CONFIG)
    with _scratch() as directory:
        blobs = BlobDirectory(directory, trusted=True, durable=False)
        with out.progress(f"downloading {reference}") as progress:

            def advance(count: int, total: int) -> None:
                progress.total = total
                progress.advance(count)

            pulled = pull.pull(reference, blobs, platform, settings=settings, logins=logins, progress=advance)
        out.debug(f"{reference}: {pulled.image.descriptor.digest} from {pulled.endpoint}")
        layers = pulled.image.manifest.layers
        ids = Ids(layers[-1].digest.hex if layers else "", pulled.image.descriptor.digest)
        return list(_convert(pulled.image, Origin.of(reference), ids, options))


@contextmanager
def _scratch() -> Iterator[str]:
    """A directory for downloads, in one that is this user's alone; what killed runs left there goes."""
    from linux import files

    parent = f"{os.environ.get('TMPDIR') or '/var/tmp'}/docker2aci-{os.geteuid()}"  # noqa: S108  checked below
    try:
        os.mkdir(parent, 0o700)
    except FileExistsError:
        found = os.lstat(parent)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise OciError(
                f"{parent}: is somebody else's", hint="set TMPDIR to a directory of yours"
            ) from None
    files.collect_temporary(parent)
    with files.temporary_directory(parent) as directory:
        yield directory
    try:
        os.rmdir(parent)
    except OSError:
        pass  # another run has its directory there


def _from_file(
    path: str, wanted: Reference | None, platform: Platform, options: argparse.Namespace
) -> list[Converted]:
    from oci import source

    if not os.path.exists(path):
        raise OciError(f"{path}: No such file or directory", hint="an image of a registry is docker://NAME")
    with source.opened(path, wanted, platform) as found:
        origin = _origin(path, wanted, found)
        return list(_convert(found.image, origin, _ids(found), options, found))


def _origin(path: str, wanted: Reference | None, found: Found) -> Origin:
    """What the image is called: as the user says, as the file says (without the registry), or as the file."""
    from oci.convert.to_manifest import Origin, identifier
    from oci.types.reference import Reference, check_tag

    if wanted is not None:
        return Origin.of(wanted)
    name = found.names[0] if found.names else ""
    try:
        if ":" in name or "/" in name:
            reference = Reference.parse(name)
            return Origin(reference.repository, reference.shown_tag)
        if name:
            check_tag(name.replace("+", "-"))  # which a layout may have; it goes into the name of the file
        base = os.path.basename(os.path.abspath(path))
        for ending in (".gz", ".tgz", ".xz", ".zst", ".tar", ".oci", ".docker"):
            base = base.removesuffix(ending)
        identifier(base)
        return Origin(base.lower(), name)
    except ValueError as error:
        raise OciError(f"{path}: {error}", hint="give it a name with --image") from None


def _ids(found: Found) -> Ids:
    from oci.convert.to_manifest import Ids

    if found.chain:
        top = found.chain[-1]
        return Ids(top.id, top.id, top.parent)
    layers = found.image.manifest.layers
    return Ids(layers[-1].digest.hex if layers else "", found.image.descriptor.digest)


def _convert(
    image: Image, origin: Origin, ids: Ids, options: argparse.Namespace, found: Found | None = None
) -> Iterator[Converted]:
    from oci.convert import to_aci

    if not image.layers:
        raise OciError(f"{origin.name}: has no layers")
    if options.nosquash:
        yield from to_aci.each_layer(
            image,
            origin,
            _output,
            manifest_hash=ids.manifest,
            chain=found.chain if found else (),
            compression=options.compression,
        )
        return
    with _output(to_aci.file_name(origin)) as out:
        yield to_aci.squashed(image, origin, out, ids=ids, compression=options.compression)


def _output(name: str) -> AbstractContextManager[BinaryIO]:
    from appc.aci.output import replacing

    return replacing(name, overwrite=True)


def _report(done: list[Converted], out: Output) -> None:
    """What scripts read: the volumes and ports of the app, then the files."""
    for one in done:
        for note in one.notes:
            out.warn(note)
    app = done[-1].manifest.app
    if app is not None and app.mount_points:
        out.line("\nConverted volumes:")
        for point in app.mount_points:
            read_only = str(point.read_only).lower()
            out.line(f'\tname: "{point.name}", path: "{point.path}", readOnly: {read_only}')
    if app is not None and app.ports:
        out.line("\nConverted ports:")
        for port in app.ports:
            activated = str(port.socket_activated).lower()
            out.line(
                f'\tname: "{port.name}", protocol: "{port.protocol}", port: {port.port}, '
                f"count: {port.count}, socketActivated: {activated}"
            )
    out.line("\nGenerated ACI(s):")
    for one in done:
        out.line(one.file)
        out.debug(f"{one.file}: {one.image_id}")
