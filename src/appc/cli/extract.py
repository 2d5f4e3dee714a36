"""actool extract: unpack an image into a directory."""

from __future__ import annotations

import os

from appc.cli import limits
from appc.errors import AppcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  actool extract app.aci ./app
  actool extract --rootfs-only app.aci ./rootfs
"""
DESCRIPTION = """\
Makes DIR with `manifest` and `rootfs`, or with --rootfs-only the files themselves, and writes nowhere else,
whatever the image holds. Device nodes are left out. Without root everything belongs to you.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths", metavar="FILE.aci DIR", nargs="*", help="the image, and the directory to make"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing directory")
    parser.add_argument("--rootfs-only", action="store_true", help="make DIR the root filesystem itself")
    limits.arguments(parser)


def run(options: argparse.Namespace, out: Output) -> int:
    from appc.aci import reader
    from appc.aci.extract import extract
    from appc.aci.output import new_directory

    if len(options.paths) != 2:
        raise AppcError("Must provide image and output directory", hint="actool extract FILE.aci DIR")
    allowed = limits.wanted(options)
    image, directory = options.paths
    if os.path.lexists(directory) and not options.overwrite:
        raise AppcError(f"Target directory exists (try --overwrite): {directory}")
    with (
        open(image, "rb") as file,
        new_directory(directory, overwrite=options.overwrite, rootfs_only=options.rootfs_only) as new,
    ):
        with open(f"{new}/manifest", "xb") as manifest:
            manifest.write(reader.read_manifest(file))
        os.mkdir(f"{new}/rootfs", 0o700)
        told = extract(file, f"{new}/rootfs", limits=allowed)
    if told.devices:
        out.warn(f"{told.devices} device node(s) left out")
    if told.attributes:
        out.warn(f"{told.attributes} extended attribute(s) left out")
    out.debug("extracted behind " + ", ".join(told.walls))
    return 0
