"""actool build: build an image from an image layout."""

from __future__ import annotations

import os

from appc.errors import AppcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  actool build ./app-layout app.aci
  actool build --overwrite --owner-root ./app-layout app.aci
  SOURCE_DATE_EPOCH=1700000000 actool build ./app-layout app.aci
"""
DESCRIPTION = """\
DIR holds `manifest` and `rootfs`. The same manifest and files, with the same times, give the same bytes,
whenever and wherever; SOURCE_DATE_EPOCH, if set, bounds the times. Owners, modes, times, links, hard links,
extended attributes and device nodes are kept, sockets left out. Until the image is complete FILE is what it
was.
"""
_COMPRESSIONS = ("gzip", "bzip2", "xz", "zstd", "none")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", metavar="DIR FILE.aci", nargs="*", help="the layout, and the image to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.add_argument("--no-compression", action="store_true", help="do not compress the image")
    parser.add_argument("--compression", choices=_COMPRESSIONS, default="gzip", help="default: gzip")
    parser.add_argument("--owner-root", action="store_true", help="give all files to root (0:0)")


def run(options: argparse.Namespace, out: Output) -> int:
    from appc.aci import validate, writer
    from appc.aci.errors import InvalidArchive
    from appc.aci.output import replacing
    from appc.schema.image import ImageManifest

    if len(options.paths) != 2:
        raise AppcError("Must provide directory and output file", hint="actool build DIR FILE.aci")
    directory, target = options.paths
    if not target.endswith(".aci"):
        raise AppcError(f"{target}: the name of an image must end with .aci")
    if os.path.lexists(target) and not options.overwrite:
        raise AppcError(f"Target file exists (try --overwrite): {target}")
    if problems := validate.layout_problems(directory):
        raise InvalidArchive(problems)
    manifest = ImageManifest.parse(validate.layout_manifest(directory)).encode()
    with replacing(target, overwrite=options.overwrite) as file:
        image_id = writer.build(
            os.path.join(directory, "rootfs"),
            manifest,
            file,
            compression="none" if options.no_compression else options.compression,
            owner_root=options.owner_root,
            latest=source_date_epoch(),
        )
    out.debug(f"{target}: {image_id}")
    return 0


def source_date_epoch() -> int | None:
    """The seconds in SOURCE_DATE_EPOCH (reproducible-builds.org); None when it is not set. AppcError if it is
    no number.
    """
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 11):
        raise AppcError(f"SOURCE_DATE_EPOCH is {text!r}, no number of seconds")
    return int(text)
